/*
 * A bundle: a directory with config.json and a root file system (OCI runtime-spec, bundle.md and config.md). The schemas
 * name what is honoured. Other properties are ignored, as the specification asks.
 */
import { readFileSync, statSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { errnoName, explain } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { OciError } from "./runtime-error.ts";
import { list, map, optional } from "./schema.ts";
import { Seccomp } from "./seccomp.ts";

const Capabilities = z.object({
	bounding: list(z.string()),
	effective: list(z.string()),
	permitted: list(z.string()),
	inheritable: list(z.string()),
	ambient: list(z.string()),
});

/** config.md, "Process"; also what `exec --process` reads. */
export const Process = z.object({
	terminal: optional(z.boolean()),
	consoleSize: optional(z.object({ height: z.number(), width: z.number() })),
	cwd: optional(z.string()),
	env: list(z.string()),
	args: list(z.string()),
	user: optional(
		z.object({
			uid: z._default(z.optional(z.number()), 0),
			gid: z._default(z.optional(z.number()), 0),
			umask: z.optional(z.number()),
			additionalGids: list(z.number()),
		}),
	),
	capabilities: optional(Capabilities),
	rlimits: list(z.object({ type: z.string(), soft: z.number(), hard: z.number() })),
	noNewPrivileges: optional(z.boolean()),
	oomScoreAdj: optional(z.number()),
});
export type Process = z.infer<typeof Process>;

const Mount = z.object({
	destination: z.string(),
	type: optional(z.string()),
	source: optional(z.string()),
	options: list(z.string()),
});
export type Mount = z.infer<typeof Mount>;

/** Whether it is a directory or file of the host. */
export function isBind({ type, options }: Mount): boolean {
	return type === "bind" || options.some((option) => option === "bind" || option === "rbind");
}

const Hook = z.object({
	path: z.string(),
	args: list(z.string()),
	env: list(z.string()),
	timeout: optional(z.number()),
});
export type Hook = z.infer<typeof Hook>;

const Hooks = z.object({
	prestart: list(Hook),
	createRuntime: list(Hook),
	createContainer: list(Hook),
	startContainer: list(Hook),
	poststart: list(Hook),
	poststop: list(Hook),
});
export type HookKind = keyof z.infer<typeof Hooks>;

const Device = z.object({
	path: z.string(),
	type: z.string(),
	major: z._default(z.optional(z.number()), 0),
	minor: z._default(z.optional(z.number()), 0),
	fileMode: optional(z.number()),
	uid: optional(z.number()),
	gid: optional(z.number()),
});
export type Device = z.infer<typeof Device>;

/** config-linux.md, "Control groups"; also what `update --resources` reads. */
export const Resources = z.object({
	memory: optional(
		z.object({ limit: optional(z.number()), reservation: optional(z.number()), swap: optional(z.number()) }),
	),
	cpu: optional(
		z.object({
			shares: optional(z.number()),
			quota: optional(z.number()),
			period: optional(z.number()),
			cpus: optional(z.string()),
		}),
	),
	pids: optional(z.object({ limit: z.number() })),
});
export type Resources = z.infer<typeof Resources>;

const Linux = z.object({
	namespaces: list(z.object({ type: z.string(), path: optional(z.string()) })),
	devices: list(Device),
	cgroupsPath: optional(z.string()),
	resources: optional(Resources),
	sysctl: map,
	maskedPaths: list(z.string()),
	readonlyPaths: list(z.string()),
	seccomp: optional(Seccomp),
});

export const Config = z.object({
	ociVersion: optional(z.string()),
	process: optional(Process),
	root: optional(z.object({ path: z.string(), readonly: optional(z.boolean()) })),
	hostname: optional(z.string()),
	domainname: optional(z.string()),
	mounts: list(Mount),
	hooks: optional(Hooks),
	annotations: map,
	linux: optional(Linux),
});
export type Config = z.infer<typeof Config>;

/** A bundle that can be run. */
export interface Bundle {
	/** Absolute. */
	path: string;
	/** The root file system, absolute. */
	rootfs: string;
	config: Config;
	process: Process;
}

/**
 * Reads and checks a bundle.
 *
 * @throws OciError ERR_OCI_BUNDLE, ERR_OCI_CONFIG
 */
export function readBundle(directory: string): Bundle {
	const path = resolve(directory);
	try {
		statSync(path);
	} catch (cause) {
		throw new OciError("ERR_OCI_BUNDLE", `chdir ${directory}: ${explain(cause)}`, { cause });
	}
	const config = readConfig(join(path, "config.json"));
	const process = checkProcess(config.process);
	if (config.root === undefined) throw new OciError("ERR_OCI_CONFIG", "root must be specified");
	const rootfs = isAbsolute(config.root.path) ? config.root.path : join(path, config.root.path);
	checkRootfs(rootfs);
	return { path, rootfs, config, process };
}

function readConfig(path: string): Config {
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (cause) {
		if (errnoName(cause) === "ENOENT")
			throw new OciError("ERR_OCI_BUNDLE", "JSON specification file config.json not found");
		throw new OciError("ERR_OCI_BUNDLE", `open ${path}: ${explain(cause)}`, { cause });
	}
	return parse(Config, text);
}

/** Reads JSON of a known form. @throws OciError ERR_OCI_CONFIG */
export function parse<T extends z.ZodType>(schema: T, text: string): z.infer<T> {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		const message = text.trim() === "" ? "EOF" : (cause as Error).message;
		throw new OciError("ERR_OCI_CONFIG", `cannot parse JSON: ${message}`, { cause });
	}
	if (value === null) throw new OciError("ERR_OCI_CONFIG", "config cannot be null");
	const found = schema.safeParse(value);
	if (found.success) return found.data;
	const { path, message } = found.error.issues[0]!;
	throw new OciError("ERR_OCI_CONFIG", `json: cannot unmarshal ${path.join(".")}: ${message}`);
}

/** @throws OciError ERR_OCI_CONFIG for a process that cannot be run */
export function checkProcess(process: Process | undefined): Process {
	const refuse = (message: string) => new OciError("ERR_OCI_CONFIG", message);
	if (process === undefined) throw refuse("process property must not be empty");
	const { cwd = "", args } = process;
	if (cwd === "") throw refuse("Cwd property must not be empty");
	if (!isAbsolute(cwd)) throw refuse("Cwd must be an absolute path");
	if (args.length === 0) throw refuse("args must not be empty");
	return process;
}

function checkRootfs(path: string): void {
	let found: ReturnType<typeof statSync>;
	try {
		found = statSync(path);
	} catch (cause) {
		throw new OciError("ERR_OCI_BUNDLE", `invalid rootfs: stat ${path}: ${explain(cause)}`, { cause });
	}
	if (!found.isDirectory()) throw new OciError("ERR_OCI_BUNDLE", `invalid rootfs: ${path} is not a directory`);
}

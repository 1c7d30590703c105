/*
 * From image configuration and command line to the one process that a container runs, by Docker's rules: what the user
 * says wins, an entrypoint of the user's own drops the image's command, variables are merged by name.
 */
import { UsageError } from "../base/errors.ts";
import type { ImageConfig } from "./image/config.ts";

/** What of the image's configuration counts here. */
export type ImageProcess = Pick<ImageConfig, "env" | "entrypoint" | "cmd" | "workingDir" | "user">;

/** What the user may say about the process. */
export interface ProcessOptions {
	/** CMD ARG... after the image's name. */
	command: readonly string[];
	/** Replaces the image's entrypoint; "" removes it. */
	entrypoint?: string;
	/** "NAME=value", in order; later ones win. */
	env: readonly string[];
	workdir?: string;
	user?: string;
	tty: boolean;
	hostname: string;
}

export interface ProcessSpec {
	args: string[];
	/** "NAME=value". HOME is missing unless somebody set it: the guest knows the user's. */
	env: string[];
	cwd: string;
	user: string;
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Merges image and options.
 *
 * @throws UsageError ERR_RUN_COMMAND when nothing says what to run, ERR_RUN_WORKDIR for a relative directory
 */
export function processSpec(image: ImageProcess, options: ProcessOptions): ProcessSpec {
	const own = options.entrypoint !== undefined;
	const entrypoint = own ? [options.entrypoint!].filter((word) => word !== "") : image.entrypoint;
	const command = options.command.length > 0 || own ? options.command : image.cmd;
	const args = [...entrypoint, ...command];
	if (args.length === 0) {
		throw new UsageError("ERR_RUN_COMMAND", "Cannot run the image: no command specified", {
			hint: "Write one after the image, which names none: tsvmm run IMAGE COMMAND",
		});
	}
	const cwd = options.workdir ?? (image.workingDir || "/");
	if (!cwd.startsWith("/")) {
		throw new UsageError("ERR_RUN_WORKDIR", `Cannot use working directory "${cwd}": it is not an absolute path`);
	}
	const defaults = [`PATH=${DEFAULT_PATH}`, `HOSTNAME=${options.hostname}`, ...(options.tty ? ["TERM=xterm"] : [])];
	return { args, env: mergeEnv(defaults, image.env, options.env), cwd, user: options.user ?? image.user };
}

/** Variables of all lists; a later value takes an earlier one's place in the order. */
export function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
	const merged = new Map<string, string>();
	for (const variable of lists.flat()) merged.set(nameOf(variable), variable);
	return [...merged.values()];
}

/**
 * What one `-e` means: "NAME=value" as it is, "NAME" the host's value, nothing when the host has none.
 *
 * @throws UsageError ERR_RUN_ENV without a name
 */
export function readVariable(text: string, host: NodeJS.ProcessEnv): string[] {
	const name = nameOf(text);
	if (name === "") throw new UsageError("ERR_RUN_ENV", `Cannot set environment variable "${text}": it has no name`);
	if (text.includes("=")) return [text];
	const value = host[name];
	return value === undefined ? [] : [`${name}=${value}`];
}

/**
 * The lines of an `--env-file`: as `-e`, without quoting; empty lines and those that begin with # are left out.
 *
 * @throws UsageError ERR_RUN_ENV for a name with a blank in it
 */
export function readEnvFile(text: string, host: NodeJS.ProcessEnv): string[] {
	return text
		.replace(/^\uFEFF/, "")
		.split(/\r?\n/)
		.map((line) => line.trimStart())
		.filter((line) => line !== "" && !line.startsWith("#"))
		.flatMap((line) => {
			if (/\s/.test(nameOf(line))) {
				throw new UsageError("ERR_RUN_ENV", `Cannot set environment variable "${nameOf(line)}": it has a blank`);
			}
			return readVariable(line, host);
		});
}

function nameOf(variable: string): string {
	const at = variable.indexOf("=");
	return at < 0 ? variable : variable.slice(0, at);
}

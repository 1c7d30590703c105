/*
 * Makes the container's process from image configuration and command line, by Docker's rules. The user's options win,
 * an entrypoint of the user's drops the image's command, and variables are merged by name.
 */
import { UsageError } from "../base/errors.ts";
import type { ImageConfig } from "./image/config.ts";

/** The fields of the image's configuration that matter here. */
export type ImageProcess = Pick<ImageConfig, "env" | "entrypoint" | "cmd" | "workingDir" | "user">;

/** The user's options for the process. */
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
	/** "NAME=value". Without a HOME the guest takes it from /etc/passwd. */
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

/** The variables of all lists. A later value replaces an earlier one and keeps its place. */
export function mergeEnv(...lists: readonly (readonly string[])[]): string[] {
	const merged = new Map<string, string>();
	for (const variable of lists.flat()) merged.set(nameOf(variable), variable);
	return [...merged.values()];
}

/**
 * Reads one `-e`. "NAME=value" stays as it is, "NAME" takes the host's value and gives nothing if there is none.
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
 * Reads the lines of an `--env-file`, each as one `-e`, without quoting. Skips empty lines and lines that begin with #.
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

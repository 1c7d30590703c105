/*
 * tsvmm's directories on the host. The cache holds files that can be fetched or built again (kernels, packages,
 * images), and may be deleted at any time. The state directory holds what users would miss: containers and volumes. The
 * runtime directory holds sockets and state of running guests. All are made on the first use. Only its user may enter
 * the runtime directory, because its sockets control the guests.
 */
import { chmodSync, lstatSync, mkdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { errnoName, explain, HostError } from "../base/errors.ts";

/** $TSVMM_CACHE, $XDG_CACHE_HOME/tsvmm or ~/.cache/tsvmm, made if need be. */
export function cacheDirectory(): string {
	return make(cachePath(), 0o755);
}

/** Where the cache is, or would be. */
export function cachePath(): string {
	const { TSVMM_CACHE, XDG_CACHE_HOME } = process.env;
	return TSVMM_CACHE || (XDG_CACHE_HOME ? join(XDG_CACHE_HOME, "tsvmm") : join(homedir(), ".cache/tsvmm"));
}

/** $XDG_CONFIG_HOME/tsvmm or ~/.config/tsvmm: what the user has set. It need not be there. */
export function configDirectory({ XDG_CONFIG_HOME }: NodeJS.ProcessEnv = process.env): string {
	return join(XDG_CONFIG_HOME || join(homedir(), ".config"), "tsvmm");
}

/** $TSVMM_STATE, /var/lib/tsvmm (root), $XDG_DATA_HOME/tsvmm or ~/.local/share/tsvmm, made if need be; mode 0700. */
export function stateDirectory(): string {
	const { TSVMM_STATE, XDG_DATA_HOME } = process.env;
	if (TSVMM_STATE) return make(TSVMM_STATE, 0o700);
	if (process.getuid!() === 0) return make("/var/lib/tsvmm", 0o700);
	return make(join(XDG_DATA_HOME || join(homedir(), ".local/share"), "tsvmm"), 0o700);
}

/** $TSVMM_RUNTIME, $XDG_RUNTIME_DIR/tsvmm, /run/tsvmm (root) or /tmp/tsvmm-UID, made if need be; mode 0700. */
export function runtimeDirectory(): string {
	const { TSVMM_RUNTIME, XDG_RUNTIME_DIR } = process.env;
	const uid = process.getuid!();
	const path =
		TSVMM_RUNTIME ||
		(XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, "tsvmm") : uid === 0 ? "/run/tsvmm" : `/tmp/tsvmm-${uid}`);
	make(path, 0o700);
	/* All users can write in /tmp, so another user's directory or symbolic link there must not be used. */
	const found = lstatSync(path);
	if (!found.isDirectory() || found.uid !== uid) {
		throw new HostError("ERR_DIRECTORY", `Cannot use ${path}: it is not a directory of user ${uid}`, {
			hint: "Set TSVMM_RUNTIME to a directory of your own",
		});
	}
	if ((found.mode & 0o077) !== 0) chmodSync(path, 0o700);
	return path;
}

function make(path: string, mode: number): string {
	try {
		makeDirectories(path, mode);
		return path;
	} catch (error) {
		throw new HostError("ERR_DIRECTORY", `Cannot make ${path}: ${explain(error)}`, {
			hint: "Set TSVMM_CACHE, TSVMM_STATE and TSVMM_RUNTIME to directories that you can write",
			cause: error,
		});
	}
}

/**
 * mkdir -p. Node's `recursive` never returns when the kernel answers ENOENT although the parent exists, as in /proc.
 */
function makeDirectories(path: string, mode: number): void {
	if (isDirectory(path)) return;
	const parent = dirname(path);
	if (parent !== path) makeDirectories(parent, 0o755);
	try {
		mkdirSync(path, { mode });
	} catch (error) {
		/* Another process may have been quicker. */
		if (errnoName(error) !== "EEXIST" || !isDirectory(path)) throw error;
	}
}

function isDirectory(path: string): boolean {
	try {
		return statSync(path).isDirectory();
	} catch {
		return false;
	}
}

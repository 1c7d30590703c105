/*
 * Which files of the host a command in the lab needs: the system and tsvmm itself (read-only), the cache, the temporary
 * directories, and the files that the command names. The supervisor adds them to the lab's tree (file-tree.ts).
 *
 * The VM has two 9p exports of that tree. "files" is written through and never cached, so new files appear at once.
 * "system" is read-only and cached for good, so programs start fast; guests/lab/enter mounts it over /usr, /etc and so
 * on.
 */
import { closeSync, lstatSync, openSync, realpathSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, resolve, sep } from "node:path";
import { explain, UsageError } from "../base/errors.ts";
import { cacheDirectory, runtimeDirectory, stateDirectory } from "../host/directories.ts";
import { packageRoot } from "../host/native.ts";

/**
 * ro, rw: the file, or the directory with all that is in it. directory: a directory that contains only what is shared
 * by itself. none: an empty directory hides what is there.
 */
export type ShareAccess = "none" | "directory" | "ro" | "rw";

export interface Share {
	/** Absolute. A path that does not exist is left out. */
	path: string;
	access: ShareAccess;
}

/** Where a Debian system has its programs and libraries. Some are symbolic links into others of the list. */
export const SYSTEM_DIRECTORIES = ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/** What every command needs. */
export function commonShares(): Share[] {
	const readable = [...SYSTEM_DIRECTORIES, dirname(realpathSync(process.execPath)), ...packageDirectories()];
	const writable = [cacheDirectory(), stateDirectory(), "/tmp", resolve(tmpdir())];
	return [
		...readable.map((path): Share => ({ path, access: "ro" })),
		...writable.map((path): Share => ({ path, access: "rw" })),
		{ path: homedir(), access: "directory" },
		{ path: process.cwd(), access: "directory" },
	];
}

/**
 * What stays protected when a directory that contains it is shared: the templates, from which the next lab comes, and
 * the supervisors' sockets.
 */
export function shareLimits(): Share[] {
	return [
		{ path: join(realpathSync(cacheDirectory()), "lab"), access: "ro" },
		{ path: join(realpathSync(runtimeDirectory()), "lab"), access: "none" },
	];
}

/**
 * The directories of tsvmm and its dependencies. npm installs the dependencies beside the package. In a checkout they
 * are in node_modules, which may be a symbolic link.
 */
function packageDirectories(): string[] {
	const root = realpathSync(packageRoot());
	const parts = root.split(sep);
	const at = parts.indexOf("node_modules");
	if (at >= 0) return [parts.slice(0, at + 1).join(sep)];
	const modules = join(root, "node_modules");
	return statSync(modules, { throwIfNoEntry: false }) === undefined ? [root] : [root, realpathSync(modules)];
}

/** "PATH" or "PATH:ro", relative to the working directory. @throws UsageError ERR_LAB_SHARE */
export function parseShare(text: string): Share {
	const readOnly = text.endsWith(":ro");
	const path = resolve(readOnly ? text.slice(0, -3) : text);
	if (isLabOwn(path)) {
		throw new UsageError("ERR_LAB_SHARE", `Cannot share ${path} with the lab: it has its own there`);
	}
	try {
		statSync(path);
	} catch (cause) {
		throw new UsageError("ERR_LAB_SHARE", `Cannot share ${path} with the lab: ${explain(cause)}`, { cause });
	}
	return { path, access: readOnly ? "ro" : "rw" };
}

/** The share for a file that a command names. */
export function fileShare(path: string, access: "ro" | "rw"): Share {
	return { path: resolve(path), access };
}

/** The share for a file that a command writes. Makes the file, because what does not exist cannot be shared. */
export function outputShare(path: string): Share {
	try {
		closeSync(openSync(path, "a", 0o600));
	} catch {
		/* The command itself reports why the file cannot be written. */
	}
	return fileShare(path, "rw");
}

/** The lab's own file systems (guests/lab/enter). */
const LAB_OWN = ["/dev", "/proc", "/run", "/sys"];

/** True when `path` is in one of the lab's own file systems, so that nothing can be shared there. */
export function isLabOwn(path: string): boolean {
	return LAB_OWN.some((own) => isWithin(path, own));
}

/** True when `path` is `directory` or is in it. */
export function isWithin(path: string, directory: string): boolean {
	return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** Arguments for guests/lab/enter: system directories, "--", and the directories in them that must not be cached. */
export function enterArguments(): string[] {
	const system = SYSTEM_DIRECTORIES.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory());
	const node = dirname(realpathSync(process.execPath));
	if (!system.some((directory) => isWithin(node, directory))) system.push(node);
	const fresh = [packageRoot(), cacheDirectory()]
		.map((path) => realpathSync(path))
		.filter((path) => system.some((directory) => path !== directory && isWithin(path, directory)));
	return [...system, "--", ...fresh];
}

/*
 * What of the host's files a command in the lab needs: the system and tsvmm itself read-only, the cache and the temporary
 * directories, and what the command names. The supervisor adds it to what the lab has already (file-tree.ts). The lab
 * has all of it twice by 9p: once written through and never cached, so that new files appear at once; once read-only
 * and cached for good, which makes programs start fast. The second is laid over the directories where the system lives.
 */
import { closeSync, lstatSync, openSync, realpathSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, resolve, sep } from "node:path";
import { explain, UsageError } from "../base/errors.ts";
import { cacheDirectory, runtimeDirectory } from "../host/directories.ts";
import { packageRoot } from "../host/native.ts";

/** none: an empty directory is in its place. directory: it exists, but only what is shared besides is in it. */
export type ShareAccess = "none" | "directory" | "ro" | "rw";

export interface Share {
	/** Absolute. What is not there is not shared. */
	path: string;
	access: ShareAccess;
}

/** Where a Debian system keeps its programs; those that are links lead to another of these. */
export const SYSTEM_DIRECTORIES = ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/** What every command needs, whatever it is. */
export function commonShares(): Share[] {
	const readable = [...SYSTEM_DIRECTORIES, dirname(realpathSync(process.execPath)), ...packageDirectories()];
	const writable = [cacheDirectory(), "/tmp", resolve(tmpdir())];
	return [
		...readable.map((path): Share => ({ path, access: "ro" })),
		...writable.map((path): Share => ({ path, access: "rw" })),
		{ path: homedir(), access: "directory" },
		{ path: process.cwd(), access: "directory" },
	];
}

/**
 * What is not shared with a directory that contains it: the lab's own template, from which the next lab comes, and the
 * sockets on which supervisors take orders.
 */
export function shareLimits(): Share[] {
	return [
		{ path: join(realpathSync(cacheDirectory()), "lab"), access: "ro" },
		{ path: join(realpathSync(runtimeDirectory()), "lab"), access: "none" },
	];
}

/** Installed by npm, its dependencies lie beside it; in a checkout they are in it, or where a link there leads. */
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

/** A file that a command names. */
export function fileShare(path: string, access: "ro" | "rw"): Share {
	return { path: resolve(path), access };
}

/** A file that a command writes: made here, because only its directory could be shared otherwise. */
export function outputShare(path: string): Share {
	try {
		closeSync(openSync(path, "a", 0o600));
	} catch {
		/* The command itself says why it cannot be written. */
	}
	return fileShare(path, "rw");
}

/** What the lab has of its own (guests/lab/enter). */
const LAB_OWN = ["/dev", "/proc", "/run", "/sys"];

/** True when the lab has its own there, whatever is shared. */
export function isLabOwn(path: string): boolean {
	return LAB_OWN.some((own) => isWithin(path, own));
}

/** True when `path` is `directory` or lies in it. */
export function isWithin(path: string, directory: string): boolean {
	return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** Arguments for guests/lab/enter: system directories, "--", directories in them that must be seen fresh. */
export function enterArguments(): string[] {
	const system = SYSTEM_DIRECTORIES.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory());
	const node = dirname(realpathSync(process.execPath));
	if (!system.some((directory) => isWithin(node, directory))) system.push(node);
	const fresh = [packageRoot(), cacheDirectory()]
		.map((path) => realpathSync(path))
		.filter((path) => system.some((directory) => path !== directory && isWithin(path, directory)));
	return [...system, "--", ...fresh];
}

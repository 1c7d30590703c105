/*
 * Whether a container's program is there, before the container is made: callers of a runtime tell "not found" from other
 * failures by the message of `create`. Paths are followed within the container's root and the directories that are
 * mounted on it. What the guest mounts by itself (proc, tmpfs) is not looked into.
 */
import { existsSync, lstatSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { join, posix } from "node:path";
import { errnoName } from "../base/errors.ts";
import { type Bundle, isBind, type Mount } from "./bundle.ts";
import { OciError } from "./runtime-error.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** As the kernel's. */
const LINKS_MAX = 40;
const EXECUTABLE = 0o111;

type Found = "executable" | "refused" | "missing" | "unknown";

/** @throws OciError ERR_OCI_EXEC in the words of Go's os/exec */
export function checkProgram({ rootfs, config, process }: Bundle): void {
	const [name = ""] = process.args;
	const root: Root = { rootfs, mounts: config.mounts };
	const quoted = JSON.stringify(name);
	const refuse = (why: string) =>
		new OciError("ERR_OCI_EXEC", `unable to start container process: exec: ${quoted}: ${why}`);
	if (name.includes("/")) {
		const path = posix.resolve(process.cwd ?? "/", name);
		const found = look(root, path);
		if (found === "missing") throw refuse(`stat ${name}: no such file or directory`);
		if (found === "refused") throw refuse("permission denied");
		return;
	}
	const directories = pathOf(process.env).split(":");
	const found = directories.map((directory) => look(root, posix.resolve(process.cwd ?? "/", directory, name)));
	if (name !== "" && found.some((one) => one === "executable" || one === "unknown")) return;
	throw refuse("executable file not found in $PATH");
}

function pathOf(env: readonly string[]): string {
	return env.findLast((variable) => variable.startsWith("PATH="))?.slice("PATH=".length) ?? DEFAULT_PATH;
}

interface Root {
	rootfs: string;
	mounts: readonly Mount[];
}

function look(root: Root, path: string): Found {
	try {
		const host = follow(root, path);
		if (host === undefined) return "unknown";
		const found = statSync(host);
		return found.isFile() && (found.mode & EXECUTABLE) !== 0 ? "executable" : "refused";
	} catch (error) {
		return errnoName(error) === "ENOENT" || errnoName(error) === "ENOTDIR" ? "missing" : "unknown";
	}
}

/** Where a path of the container is on the host; undefined when only the guest knows. @throws as lstat(2) */
function follow(root: Root, path: string): string | undefined {
	let rest = path.split("/").filter((part) => part !== "");
	let at = "/";
	let links = 0;
	while (rest.length > 0) {
		const [name, ...after] = rest as [string, ...string[]];
		rest = after;
		if (name === ".") continue;
		const next = name === ".." ? posix.dirname(at) : posix.join(at, name);
		const host = onHost(root, next);
		if (host === undefined) return undefined;
		if (isMadeForMount(root, next, host) || !lstatSync(host).isSymbolicLink()) {
			at = next;
			continue;
		}
		if (++links > LINKS_MAX) return undefined;
		const target = readlinkSync(host);
		if (target.startsWith("/")) at = "/";
		rest = [...target.split("/").filter((part) => part !== ""), ...rest];
	}
	return onHost(root, at);
}

/** Whether it is not there yet: a directory on the way to a mount, which is made with it. */
function isMadeForMount({ mounts }: Root, path: string, host: string): boolean {
	return !existsSync(host) && mounts.some(({ destination }) => isBelow(posix.normalize(`/${destination}`), path));
}

/** By the mount that covers it. */
function onHost({ rootfs, mounts }: Root, path: string): string | undefined {
	const mount = mounts.findLast(({ destination }) => isBelow(path, posix.normalize(`/${destination}`)));
	if (mount === undefined) return join(rootfs, path);
	if (!isBind(mount) || mount.source === undefined) return undefined;
	/* A source may be a link of the host's, as that of podman's --init is. */
	return join(realpathSync(mount.source), posix.relative(posix.normalize(`/${mount.destination}`), path));
}

function isBelow(path: string, directory: string): boolean {
	return path === directory || path.startsWith(directory === "/" ? "/" : `${directory.replace(/\/$/, "")}/`);
}

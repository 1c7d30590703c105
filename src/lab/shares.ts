/*
 * Which of the host's directories the lab sees how. The whole of the host is there twice by 9p: once written through
 * and never cached, so that new files appear at once; once read-only and cached for good, which makes programs start
 * fast. The second is laid over the directories where the system lives.
 */
import { lstatSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import { cacheDirectory } from "../base/paths.ts";
import { packageRoot } from "../host/native.ts";

/** Where a Debian system keeps its programs; those that are links lead to another of these. */
const SYSTEM = ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/** True when `path` is `directory` or lies in it. */
export function isWithin(path: string, directory: string): boolean {
	return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** Arguments for guests/lab/enter: system directories, "--", directories in them that must be seen fresh. */
export function enterArguments(): string[] {
	const system = SYSTEM.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory());
	const node = dirname(realpathSync(process.execPath));
	if (!system.some((directory) => isWithin(node, directory))) system.push(node);
	const fresh = [packageRoot(), cacheDirectory()]
		.map((path) => realpathSync(path))
		.filter((path) => system.some((directory) => path !== directory && isWithin(path, directory)));
	return [...system, "--", ...fresh];
}

/** Variables that mean nothing in the lab, or that make programs slow to start there. */
const DROPPED =
	/^(?:XDG_RUNTIME_DIR|DBUS_.*|SSH_.*|DISPLAY|WAYLAND_DISPLAY|LD_PRELOAD|NODE_EXTRA_CA_CERTS|NODE_CHANNEL_.*|NODE_V8_COVERAGE|OLDPWD|_|TSVMM_LAB.*|TSVMM_HOST|TSVMM_RUNTIME)$/;

/** The environment of a program in the lab, from one of the host. */
export function labEnvironment(host: NodeJS.ProcessEnv): Record<string, string> {
	const env: Record<string, string> = {};
	for (const [key, value] of Object.entries(host)) {
		if (value !== undefined && !DROPPED.test(key)) env[key] = value;
	}
	return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...env, ...IN_LAB };
}

/** TSVMM_HOST: the lab is a KVM host, no further lab in it. Unix sockets cannot live on 9p, hence /run. */
const IN_LAB = { TSVMM_HOST: "direct", TSVMM_LAB: "1", TSVMM_RUNTIME: "/run/tsvmm" };

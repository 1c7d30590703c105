/*
 * What a process has from the one that started it and cannot change by itself: namespaces, identity, limits. A process
 * that was started by somebody else can stand in for one of our own only where all of this is the same.
 */
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { getPriority } from "node:os";
import { join } from "node:path";

const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
/** Of /proc/self/status. */
const FIELDS = /^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Cpus_allowed|Mems_allowed):.*$/gm;
const CGROUPS = "/proc/self/cgroup";

/** A text that is the same for two processes where all of that is. */
export function inheritance(): string {
	return [
		...NAMESPACES.map((name) => maybe(() => readlinkSync(`/proc/self/ns/${name}`))),
		maybe(() => readlinkSync("/proc/self/root")),
		...(readFileSync("/proc/self/status", "latin1").match(FIELDS) ?? []),
		readFileSync("/proc/self/limits", "latin1"),
		readFileSync("/proc/self/oom_score_adj", "latin1"),
		maybe(() => readFileSync("/proc/self/attr/current", "latin1")),
		`${getPriority()}`,
	].join("\n");
}

/** The control groups of this process, for `enterControlGroups` of another one. */
export function controlGroups(): string {
	return readFileSync(CGROUPS, "latin1");
}

/** Takes this process to where `controlGroups` was called. @returns false when it may not or cannot go there */
export function enterControlGroups(wanted: string): boolean {
	if (controlGroups() === wanted) return true;
	const path = /^0::(\/.*)$/m.exec(wanted)?.[1];
	if (path === undefined || path.split("/").includes("..")) return false;
	try {
		writeFileSync(join("/sys/fs/cgroup", path, "cgroup.procs"), "0");
	} catch {
		return false;
	}
	return controlGroups() === wanted;
}

/** Older kernels lack some of it. */
function maybe(read: () => string): string {
	try {
		return read();
	} catch {
		return "";
	}
}

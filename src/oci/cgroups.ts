/*
 * The control groups of the host in which a container's machine is counted (linux.cgroupsPath): callers read there what
 * a container uses. A host may have version 2, or a hierarchy for each controller of version 1, or both.
 */
import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Config } from "./bundle.ts";

/**
 * Puts processes into the container's group in all hierarchies, as far as it may: a user without root has none.
 *
 * @returns the groups' directories, for `removeCgroups`
 */
export function joinCgroups({ linux }: Config, pids: readonly number[]): string[] {
	const path = linux?.cgroupsPath;
	/* "slice:prefix:name" is systemd's, and needs its bus. */
	if (path === undefined || path === "" || path.includes(":") || path.includes("..")) return [];
	const joined: string[] = [];
	const own = ownGroup();
	for (const hierarchy of hierarchies()) {
		const directory = join(hierarchy, path);
		try {
			mkdirSync(directory, { recursive: true });
			copyCpuset(directory);
			joined.push(directory);
			for (const pid of pids) writeFileSync(join(directory, "cgroup.procs"), `${pid}`);
			if (!mayOpenDevices()) writeFileSync(join(hierarchy, own, "cgroup.procs"), `${process.pid}`);
		} catch {
			/* Read-only, or not this user's. */
		}
	}
	return joined;
}

/** Removes groups that no process is in. */
export function removeCgroups(directories: readonly string[]): void {
	for (const directory of directories) {
		try {
			rmdirSync(directory);
		} catch {
			/* A process of the caller's is still in it, or it has gone. */
		}
	}
}

/**
 * podman gives a pod a group whose processes may open no device. A container's own group would allow some again; a machine
 * needs others, so it goes back to where it was.
 */
function mayOpenDevices(): boolean {
	try {
		closeSync(openSync("/dev/null", "r"));
		return true;
	} catch {
		return false;
	}
}

/** Of this process, in the hierarchy of version 2. */
function ownGroup(): string {
	return /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "/";
}

function hierarchies(): string[] {
	return readFileSync("/proc/self/mounts", "utf8")
		.split("\n")
		.map((line) => line.split(" "))
		.filter(([, , type]) => type === "cgroup" || type === "cgroup2")
		.flatMap(([, path]) => (path === undefined ? [] : [path]));
}

/** A new group of version 1's cpuset takes no process until it has processors. */
function copyCpuset(directory: string): void {
	for (const file of ["cpuset.cpus", "cpuset.mems"]) {
		try {
			if (readFileSync(join(directory, file), "utf8").trim() !== "") continue;
			writeFileSync(join(directory, file), readFileSync(join(dirname(directory), file)));
		} catch {
			/* Another hierarchy than cpuset's. */
		}
	}
}

/*
 * The control groups of the host in which a container's machine is counted (linux.cgroupsPath): callers read there what
 * a container uses. A host may have version 2, or a hierarchy for each controller of version 1, or both.
 */
import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Config } from "./bundle.ts";
import { scopeOf, startScope } from "./systemd.ts";

/**
 * Puts processes into the container's group in all hierarchies, as far as it may: a user without root has none.
 *
 * @param systemd makes a scope of a path in its form, "slice:prefix:name"; else there is no group for that
 * @returns the groups' directories, for `removeCgroups`; none of systemd's, which removes its own
 * @throws OciError ERR_OCI_CGROUP when systemd refuses
 */
export async function joinCgroups({ linux }: Config, pids: readonly number[], systemd: boolean): Promise<string[]> {
	const path = linux?.cgroupsPath;
	if (path === undefined || path === "" || path.includes("..")) return [];
	const scope = scopeOf(path);
	if (scope !== undefined) {
		const leave = rememberCgroups();
		if (systemd) await startScope(scope, pids);
		if (!mayOpenDevices()) leave();
		return [];
	}
	const joined: string[] = [];
	for (const { mountPoint, own } of hierarchies()) {
		const directory = join(mountPoint, path);
		try {
			mkdirSync(directory, { recursive: true });
			enableControllers(mountPoint, directory);
			copyCpuset(directory);
			joined.push(directory);
			for (const pid of pids) writeFileSync(join(directory, "cgroup.procs"), `${pid}`);
			if (!mayOpenDevices()) enter(join(mountPoint, own));
		} catch {
			/* Read-only, or not this user's. */
		}
	}
	return joined;
}

/** @returns what puts this process back into the groups that it is in now, so that others can be removed */
export function rememberCgroups(): () => void {
	const groups = hierarchies().map(({ mountPoint, own }) => join(mountPoint, own));
	return () => {
		for (const group of groups) {
			try {
				enter(group);
			} catch {
				/* Not this user's, or removed meanwhile. */
			}
		}
	};
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

function enter(group: string): void {
	writeFileSync(join(group, "cgroup.procs"), `${process.pid}`);
}

interface Hierarchy {
	mountPoint: string;
	/** The group that this process is in, below it. */
	own: string;
}

function hierarchies(): Hierarchy[] {
	const groups = readFileSync("/proc/self/cgroup", "utf8").trim().split("\n");
	const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
	return mounts.flatMap((line) => {
		const [, mountPoint = "", type, options = ""] = line.split(" ");
		if (type !== "cgroup" && type !== "cgroup2") return [];
		/* NUMBER:CONTROLLERS:GROUP; version 2 is number 0 without controllers. */
		const own = groups
			.map((group) => /^(\d+):([^:]*):(.*)$/.exec(group)!)
			.find(([, number, controllers = ""]) =>
				type === "cgroup2" ? number === "0" : controllers.split(",").every((one) => options.split(",").includes(one)),
			);
		return [{ mountPoint, own: own?.[3] ?? "/" }];
	});
}

/** In version 2 a group has the controllers that are enabled in all above it. */
function enableControllers(mountPoint: string, directory: string): void {
	const parent = dirname(directory);
	if (parent.startsWith(`${mountPoint}/`)) enableControllers(mountPoint, parent);
	for (const controller of wordsOf(join(parent, "cgroup.controllers"))) {
		try {
			writeFileSync(join(parent, "cgroup.subtree_control"), `+${controller}`);
		} catch {
			/* Not this user's, or processes are in the group itself. */
		}
	}
}

function wordsOf(file: string): string[] {
	try {
		return readFileSync(file, "utf8").trim().split(" ");
	} catch {
		return [];
	}
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

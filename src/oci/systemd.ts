/*
 * Control groups that systemd keeps: a caller may want a container in a scope, a unit of processes that run already
 * (systemd.scope(5)). busctl carries the call to systemd, the user's own where that is not root.
 */
import { readFileSync, statSync } from "node:fs";
import { explain } from "../base/errors.ts";
import { run } from "../host/command.ts";
import { isInUserNamespace } from "../host/user-namespace.ts";
import { OciError } from "./runtime-error.ts";
import { becomes } from "./state.ts";

/** A unit that systemd makes of processes. */
export interface Scope {
	/** Where it is. */
	slice: string;
	/** Its name, with ".scope". */
	unit: string;
}

const SYSTEMD = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
/** A name, how it replaces other jobs, properties, and units that it needs (org.freedesktop.systemd1(5)). */
const START = ["StartTransientUnit", "ssa(sv)a(sa(sv))"];
const ACCOUNTED = ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"];

/** @returns what "SLICE:PREFIX:NAME" means; undefined for a path of a control group */
export function scopeOf(path: string): Scope | undefined {
	const [slice, prefix, name, ...rest] = path.split(":");
	if (name === undefined || name === "" || rest.length > 0) return undefined;
	return { slice: slice || "system.slice", unit: `${prefix ? `${prefix}-` : ""}${name}.scope` };
}

/** Whether systemd runs this host (sd_booted(3)). */
export function hasSystemd(): boolean {
	return statSync("/run/systemd/system", { throwIfNoEntry: false })?.isDirectory() === true;
}

/** For a caller that wants systemd's groups. @throws OciError ERR_OCI_CGROUP, in runc's words */
export function checkScope(path: string | undefined): void {
	if (!hasSystemd())
		throw new OciError(
			"ERR_OCI_CGROUP",
			"systemd cgroup flag passed, but systemd support for managing cgroups is not available",
		);
	if (path === undefined || path === "" || scopeOf(path) !== undefined) return;
	throw new OciError(
		"ERR_OCI_CGROUP",
		`expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got ${JSON.stringify(path)} instead`,
	);
}

/**
 * Makes the scope and puts processes into it. It goes when the last of them has ended or left it.
 *
 * @throws OciError ERR_OCI_CGROUP
 */
export async function startScope({ slice, unit }: Scope, pids: readonly number[]): Promise<void> {
	const properties = [
		...["Description", "s", `tsvmm container ${unit}`],
		...["Slice", "s", slice],
		...["Delegate", "b", "true"],
		...["DefaultDependencies", "b", "false"],
		...["CollectMode", "s", "inactive-or-failed"],
		...ACCOUNTED.flatMap((name) => [name, "b", "true"]),
		...["PIDs", "au", `${pids.length}`, ...pids.map(String)],
	];
	const count = 6 + ACCOUNTED.length;
	const whose = process.getuid!() !== 0 || isInUserNamespace() ? "--user" : "--system";
	try {
		await run("busctl", [
			"--quiet",
			whose,
			"call",
			...SYSTEMD,
			...START,
			unit,
			"replace",
			`${count}`,
			...properties,
			"0",
		]);
	} catch (cause) {
		throw failure(unit, explain(cause), cause);
	}
	/* systemd answers before the job is done. */
	if (!(await becomes(() => pids.every((pid) => isIn(pid, unit))))) throw failure(unit, "timed out");
}

function failure(unit: string, why: string, cause?: unknown): OciError {
	const message = `unable to apply cgroup configuration: unable to start unit ${JSON.stringify(unit)}: ${why}`;
	return new OciError("ERR_OCI_CGROUP", message, { cause });
}

/** A process that has ended is in no other group. */
function isIn(pid: number, unit: string): boolean {
	try {
		return readFileSync(`/proc/${pid}/cgroup`, "latin1").includes(`/${unit}`);
	} catch {
		return true;
	}
}

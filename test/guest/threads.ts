/*
 * The threads of vCPUs that this process has.
 */
import { readdirSync, readFileSync } from "node:fs";
import { errnoName } from "../../src/base/errors.ts";

/** How many there are. One that was waited for may still be there for a moment: the kernel wakes the waiter first. */
export function vcpuThreads(): number {
	return readdirSync("/proc/self/task").filter((id) => nameOf(id).startsWith("vcpu")).length;
}

function nameOf(id: string): string {
	try {
		return readFileSync(`/proc/self/task/${id}/comm`, "latin1");
	} catch (error) {
		/* It has ended since the directory was read. */
		if (errnoName(error) === "ENOENT" || errnoName(error) === "ESRCH") return "";
		throw error;
	}
}

/*
 * update: other limits for a container that runs, from a file or from flags.
 */
import { readFileSync } from "node:fs";
import { parse, Resources } from "../../oci/bundle.ts";
import { askProcess } from "../../oci/control.ts";
import { OciError } from "../../oci/runtime-error.ts";
import { checkId, OciContainer } from "../../oci/state.ts";

/** @param flags as the command line has them; `resources` is a file that has all of them */
export async function update(id: string, root: string, flags: Record<string, string>): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	if (container.read().status === "stopped") throw new OciError("ERR_OCI_STOPPED", "container not running");
	const { resources: file } = flags;
	const resources =
		file === undefined ? resourcesOf(flags) : parse(Resources, readFileSync(file === "-" ? 0 : file, "utf8"));
	await askProcess(container.control, { do: "update", resources });
}

function resourcesOf(flags: Record<string, string>): Resources {
	const number = (name: string) => (flags[name] === undefined ? undefined : Number(flags[name]));
	const pids = number("pidsLimit");
	return {
		memory: { limit: number("memory"), reservation: number("memoryReservation"), swap: undefined },
		cpu: { quota: number("cpuQuota"), period: number("cpuPeriod"), shares: number("cpuShare"), cpus: undefined },
		pids: pids === undefined ? undefined : { limit: pids },
	};
}

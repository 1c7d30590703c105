/*
 * `tsvmm update`: other limits and another restart policy for containers.
 */
import { Command } from "commander";
import { UsageError } from "../../base/errors.ts";
import { parseRestartPolicy } from "../../container/life/restart-policy.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { type ContainerUpdate, updateContainer } from "../../container/life/update.ts";
import { validateSize } from "../../machine/config.ts";
import { parseCpus, parseMemory } from "../options.ts";
import { eachContainer } from "./each.ts";
import { readPidsLimit } from "./join-flags.ts";
import { whereContainersAre } from "./where.ts";

interface UpdateFlags {
	cpus?: string;
	memory?: string;
	pidsLimit?: string;
	restart?: string;
}

export function updateCommand(): Command {
	return new Command("update")
		.description("change limits and restart policies; a container that runs cannot get more cpus and memory")
		.argument("<container...>")
		.option("--cpus <n>", "vCPUs, 1 to 32")
		.option("-m, --memory <size>", "RAM, as in 512M or 2G")
		.option("--pids-limit <n>", "processes and threads at once; -1: no limit")
		.option("--restart <policy>", "no, on-failure[:TIMES], always or unless-stopped")
		.action((names: string[], flags: UpdateFlags) => {
			const update = readUpdate(flags);
			const store = new ContainerStore();
			return whereContainersAre(() => eachContainer(names, (container) => updateContainer(store, container, update)));
		});
}

/** @throws UsageError for what is no limit, ERR_UPDATE when nothing is to change */
export function readUpdate({ cpus, memory, pidsLimit, restart }: UpdateFlags): ContainerUpdate {
	const update: ContainerUpdate = {
		...(cpus === undefined ? {} : { cpus: parseCpus(cpus) }),
		...(memory === undefined ? {} : { memoryMiB: parseMemory(memory) }),
		...(pidsLimit === undefined ? {} : { pidsLimit: readPidsLimit(pidsLimit) }),
		...(restart === undefined ? {} : { restart: parseRestartPolicy(restart) }),
	};
	validateSize(update.cpus ?? 1, update.memoryMiB ?? 512);
	if (Object.keys(update).length > 0) return update;
	throw new UsageError("ERR_UPDATE", "Cannot update the container: nothing is to change", {
		hint: "Give --cpus, --memory, --pids-limit or --restart",
	});
}

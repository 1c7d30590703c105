/*
 * What a process that has a machine does for those who ask it: each is loaded for the first request.
 */
import type { DumpMachine, ExplainMachine } from "../machine/control.ts";

export const dumpLater: DumpMachine = async (machine, path, options) => {
	const { dumpMachine } = await import("../debug/core-dump.ts");
	await dumpMachine(machine, path, options);
};

export const explainLater: ExplainMachine = async (machine, options) => {
	const { explainLive } = await import("./live.ts");
	return await explainLive(machine, options);
};

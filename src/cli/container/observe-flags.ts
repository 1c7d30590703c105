/*
 * The flags of `run` and `create` by which somebody looks on at the container's machine, or lets things go wrong in it: those
 * of `boot`, and what they mean for a container that is kept.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { UsageError } from "../../base/errors.ts";
import type { Observed } from "../../container/life/observed.ts";
import type { Share } from "../../lab/shares.ts";
import { addFaultFlags, type FaultFlags, faultsOf } from "../fault-flags.ts";
import { addTraceFlags, type TraceFlags, traceConfig, traceShares } from "../trace-flags.ts";

export interface ObserveFlags extends FaultFlags, TraceFlags {}

export function addObserveFlags(command: Command): Command {
	return addTraceFlags(addFaultFlags(command));
}

/**
 * What is kept of them; undefined for nothing.
 *
 * @throws UsageError ERR_OPTION_TRACE, ERR_TRACE_FORMAT, ERR_FAULT
 */
export function readObserved(flags: ObserveFlags): Observed | undefined {
	const { trace, traceFiles = [] } = traceConfig(flags);
	if (trace !== undefined) {
		throw new UsageError("ERR_OPTION_TRACE", "Cannot print a trace of the container: --trace-file is missing", {
			hint: "Add --trace-file FILE.jsonl",
		});
	}
	const faults = faultsOf(flags);
	if (traceFiles.length === 0 && faults === undefined) return undefined;
	return {
		...(traceFiles.length === 0 ? {} : { traceFiles: traceFiles.map(keptFile) }),
		...(faults === undefined ? {} : { faults: { rules: flags.fault, seed: faults.seed } }),
	};
}

function keptFile({ path, events }: { path: string; events?: readonly string[] | undefined }) {
	return { path: resolve(path), ...(events === undefined ? {} : { events: [...events] }) };
}

/** The lab writes these files. */
export function observedFiles({ traceFile }: ObserveFlags): Share[] {
	return traceShares({ traceFiles: traceFile.map((path) => ({ path })) });
}

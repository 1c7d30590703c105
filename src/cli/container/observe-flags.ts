/*
 * The flags of `run` and `create` by which somebody looks on at the container's machine, or lets things go wrong in it: those
 * of `boot`, and what they mean for a container that is kept.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { UsageError } from "../../base/errors.ts";
import type { DebugOptions } from "../../container/life/debugged.ts";
import type { LaunchOptions } from "../../container/life/launch.ts";
import type { Observed } from "../../container/life/observed.ts";
import type { ForegroundStdio } from "../../host/foreground.ts";
import type { Share } from "../../lab/shares.ts";
import { addFaultFlags, type FaultFlags, faultsOf } from "../fault-flags.ts";
import { addTraceFlags, type TraceFlags, traceConfig, traceShares } from "../trace-flags.ts";

export interface ObserveFlags extends FaultFlags, TraceFlags {}

export function addObserveFlags(command: Command): Command {
	return addTraceFlags(addFaultFlags(command));
}

/**
 * What is kept of them; undefined for nothing. A trace that is printed is the command's alone.
 *
 * @param attached the command stays with the container
 * @throws UsageError ERR_OPTION_TRACE, ERR_TRACE_FORMAT, ERR_FAULT
 */
export function readObserved(flags: ObserveFlags, attached: boolean): Observed | undefined {
	const { trace, traceFiles = [] } = traceConfig(flags);
	if (trace !== undefined && !attached) {
		throw new UsageError("ERR_OPTION_TRACE", "Cannot print a trace of a container in the background", {
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

/** Who has something to say of the machine, and where it is printed. */
interface NotesOf {
	readonly observed?: Observed | undefined;
	readonly debug?: DebugOptions | undefined;
	readonly stdio: Pick<ForegroundStdio, "stderr" | "terminal">;
}

/** Prints what the supervisor says of the machine; undefined when there is nothing to say. The caller awaits the end. */
export async function printedNotes(
	flags: ObserveFlags & { quiet: boolean },
	{ observed, debug, stdio: { stderr, terminal } }: NotesOf,
): Promise<(NonNullable<LaunchOptions["notes"]> & { finished(): Promise<void> }) | undefined> {
	const { quiet } = flags;
	const { trace } = traceConfig(flags);
	if (trace === undefined && debug === undefined && (quiet || observed?.faults === undefined)) return undefined;
	const { PrintedNotes } = await import("./printed-notes.ts");
	const printed = new PrintedNotes(stderr, terminal === undefined ? "\n" : "\r\n");
	return { trace, quiet, follow: (stream) => printed.follow(stream), finished: () => printed.finished() };
}

/** The lab writes these files. */
export function observedFiles({ traceFile }: ObserveFlags): Share[] {
	return traceShares({ traceFiles: traceFile.map((path) => ({ path })) });
}

/*
 * Runs a machine in the foreground to its end: here, or in the lab. `boot` and `snapshot restore` do so.
 */
import { StdioConsole } from "../backends/console.ts";
import { describeFaults } from "../base/faults.ts";
import type { GdbServer } from "../debug/gdb/server.ts";
import { rawTerminal, restoreTerminal } from "../host/terminal.ts";
import type { Inspector } from "../inspector/inspector.ts";
import { needsLab, reexecInLab } from "../lab/host.ts";
import type { Share } from "../lab/shares.ts";
import type { RestoreConfig } from "../machine/config.ts";
import { MachineControl } from "../machine/control.ts";
import type { Machine } from "../machine/machine.ts";
import { describeShutdown, type ShutdownReason, shutdownError } from "../machine/shutdown-reason.ts";
import type { BootTimings } from "./boot-timings.ts";
import { EscapeKey } from "./escape-key.ts";
import { gdbPorts, openGdb } from "./gdb-flags.ts";
import type { HostFlags } from "./host-flags.ts";
import { inspectInLab, inspection } from "./inspect-flag.ts";
import { outputFailed, watchOutput, watchStderr } from "./output.ts";
import { shutdownStatus } from "./shutdown-status.ts";
import { describeTimings, type Timings } from "./timings.ts";

/** A machine that is to run. */
export interface Planned<Config extends RestoreConfig> {
	readonly config: Config;
	readonly make: (config: Config) => Promise<Machine>;
	readonly flags: HostFlags;
	/** The files that the command line names, for a machine in the lab. */
	readonly shares: () => Promise<readonly Share[]>;
}

/** Runs a machine. @returns the exit status */
export async function runInForeground<Config extends RestoreConfig>(planned: Planned<Config>): Promise<number> {
	const { flags, shares } = planned;
	if (needsLab()) {
		watchOutput();
		const ports = flags.net.flatMap((net) => (net.kind === "user" ? (net.ports ?? []) : []));
		const inspector = await inspectInLab(flags.inspect);
		ports.push(...inspector.ports, ...gdbPorts(flags));
		return reexecInLab([...process.argv.slice(2), ...inspector.words], {
			quiet: flags.quiet,
			ports,
			shares: await shares(),
		});
	}
	watchStderr();
	const timings = flags.timings ? new (await import("./boot-timings.ts")).BootTimings() : undefined;
	const end = await runMachine(planned, timings);
	report(end, flags, timings?.timings);
	const { faults } = planned.config;
	if (faults !== undefined && !flags.quiet) {
		for (const line of describeFaults(faults)) process.stderr.write(`tsvmm: ${line}\n`);
	}
	return shutdownStatus(end);
}

function report(end: ShutdownReason, { json, quiet }: HostFlags, timings: Timings | undefined): void {
	const say = (line: string) => process.stderr.write(`${line}\n`);
	if (json) return void say(JSON.stringify({ ...end, timings }));
	if (timings !== undefined) say(`tsvmm: ${describeTimings(timings)}`);
	const failure = shutdownError(end);
	if (failure !== undefined) say(`tsvmm: ${failure.message} [${failure.code}]`);
	else if (!quiet) say(`tsvmm: ${describeShutdown(end)}`);
}

/** Runs a machine to its end. SIGINT, SIGTERM and SIGHUP stop it. The terminal is always restored. */
async function runMachine<Config extends RestoreConfig>(
	{ config, make, flags }: Planned<Config>,
	timings: BootTimings | undefined,
): Promise<ShutdownReason> {
	let machine: Machine | undefined;
	const stop = () => void machine?.stop();
	const onStdio = config.console?.kind === "stdio";
	/* The console's reader has gone, so we end, as programs in a pipe do (output.ts has the exit status). */
	const onError = (error: Error) => {
		outputFailed(error);
		stop();
	};
	const own = onStdio ? ({ kind: "own", console: new StdioConsole({ onError }) } as const) : config.console;
	const timed = timings === undefined ? own : timings.begin(own);
	const inspected = flags.inspect === undefined ? undefined : await inspection(flags.inspect, timed);
	const explained = flags.explain === undefined ? undefined : await explanation(flags.explain);
	const observer = explained === undefined ? {} : { observer: explained.observer };
	machine = await make({ ...config, ...observer, console: inspected?.console ?? timed });
	explained?.attach(machine);
	let control: MachineControl | undefined;
	let inspector: Inspector | undefined;
	let gdb: GdbServer | undefined;
	const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
	for (const signal of signals) process.once(signal, stop);
	const interactive = onStdio && process.stdin.isTTY === true;
	let escapeKey: EscapeKey | undefined;
	try {
		gdb = await openGdb(flags, machine);
		inspector = await inspected?.open(machine);
		if (flags.control !== undefined) {
			const { dumpLater, explainLater } = await import("../explain/answers.ts");
			control = await MachineControl.open(flags.control, machine, { dump: dumpLater, explain: explainLater });
		}
		if (interactive) {
			escapeKey = new EscapeKey(stop);
			rawTerminal(0);
		}
		machine.start();
		timings?.started(machine);
		return await machine.ended;
	} finally {
		if (interactive) restoreTerminal();
		const end = await machine.stop();
		await explained?.ended();
		await inspector?.close(end);
		await control?.close();
		await gdb?.close();
		escapeKey?.close();
		for (const signal of signals) process.off(signal, stop);
	}
}

/** Loaded only when it is wanted. */
async function explanation(seconds: number) {
	const { ExplainedMachine } = await import("./explained-machine.ts");
	return new ExplainedMachine(seconds);
}

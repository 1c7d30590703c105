/*
 * One container's life on a machine that is ready to start: boot, agent, set-up, payload, power-off. It knows the
 * machine only as a GuestMachine, so that tests run it with the real agent and no VM.
 *
 *     start -> agent connects -> SETUP -> EXEC <-> stdio, signals, window size -> EXIT -> power off -> machine ends
 */
import type { Duplex, Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { AgentClient, type ExecSpec } from "../agent/client.ts";
import type { ExitStatus, Session } from "../agent/session.ts";
import { GuestError, TsvmmError } from "../base/errors.ts";
import { describeEnd, endError, type MachineEnd } from "../machine/ending.ts";
import type { SetupStep } from "./setup-steps.ts";

/** A machine as a container sees it. */
export interface GuestMachine {
	start(): void;
	stop(): Promise<MachineEnd>;
	/** Never rejects. */
	readonly ended: Promise<MachineEnd>;
	/** The agent's connection. */
	readonly agent: Promise<Duplex>;
	/** The last lines of the guest's console. */
	consoleTail(): string;
}

/** The user's side of the payload. */
export interface ContainerStdio {
	/** Missing: the payload's stdin is /dev/null. */
	stdin?: Readable;
	stdout: Writable;
	stderr: Writable;
	/** Makes the payload's stdio a terminal. */
	terminal?: ContainerTerminal;
	/** Tells of signals to forward, by number, until the returned function is called. */
	onSignal(handler: (signal: number) => void): () => void;
}

export interface ContainerTerminal {
	size(): { columns: number; rows: number };
	/** Raw mode on, just before the payload starts. */
	raw(): void;
	restore(): void;
	onResize(handler: () => void): () => void;
}

/** How long each phase took, in ms. */
export interface PhaseTimes {
	/** This process, from its start to the first instruction of the guest. */
	host: number;
	/** To the first instruction of the agent. */
	kernel: number;
	/** The agent, to the payload's start. */
	init: number;
	payload: number;
}

export interface ContainerResult {
	/** 0 to 255; 128 + n for signal n. */
	status: number;
	times: PhaseTimes;
}

/** What the agent calls the machine's one container. */
const CONTAINER = "container";
const BOOT_TIMEOUT_MS = 120_000;
const POWER_OFF_TIMEOUT_MS = 10_000;
const SIGINT = 2;
const SIGTERM = 15;
const SIGPIPE = 13;
/** As docker: whoever asks the third time means it. */
const INSISTENT = 3;

/**
 * Runs the payload and ends the machine, whatever happens.
 *
 * @throws ExecError when the payload cannot be started, GuestError when the machine ends before it does
 */
export async function runOnMachine(
	machine: GuestMachine,
	steps: readonly SetupStep[],
	exec: ExecSpec,
	stdio: ContainerStdio,
): Promise<ContainerResult> {
	const signals = new SignalGate(stdio, () => void machine.stop());
	const starting = performance.now();
	let client: AgentClient | undefined;
	try {
		machine.start();
		/* Whatever waits for the agent also waits for the end of the machine, which makes waiting pointless. */
		const early = machine.ended.then((end) => Promise.reject(signals.interrupted() ?? endedEarly(end, machine)));
		early.catch(() => undefined);
		client = new AgentClient(await Promise.race([agentStream(machine), early]));
		const hello = await orEarly(client.hello({ timeoutMs: BOOT_TIMEOUT_MS }), early, machine);
		const greeted = performance.now();
		void client.setClock().catch(() => undefined); /* kvmclock has set it already on most kernels */
		await orEarly(client.setup(steps, CONTAINER), early, machine);
		stdio.terminal?.raw();
		const session = await orEarly(client.exec(terminalSpec(exec, stdio)), early, machine);
		const started = performance.now();
		signals.forward(session);
		const exit = await orEarly(attach(session, stdio), early, machine);
		const ended = performance.now();
		stdio.terminal?.restore();
		await powerOff(client, machine);
		const inAgent = hello.nowMs - hello.startMs;
		return {
			status: exitStatus(exit),
			times: {
				host: starting,
				kernel: greeted - starting - inAgent,
				init: started - greeted + inAgent,
				payload: ended - started,
			},
		};
	} finally {
		stdio.terminal?.restore();
		signals.close();
		client?.close();
		await machine.stop();
	}
}

/** 128 + n for signal n, as a shell has it. */
export function exitStatus(exit: ExitStatus): number {
	return "code" in exit ? exit.code : 128 + exit.signal;
}

function terminalSpec(exec: ExecSpec, { stdin, terminal }: ContainerStdio): ExecSpec {
	if (terminal !== undefined) return { ...exec, container: CONTAINER, tty: terminal.size() };
	return { ...exec, container: CONTAINER, ...(stdin === undefined ? { stdin: "null" as const } : {}) };
}

async function agentStream(machine: GuestMachine): Promise<Duplex> {
	let timer: NodeJS.Timeout | undefined;
	const timeout = new Promise<never>((_, reject) => {
		timer = setTimeout(() => {
			const message = `Cannot reach the guest agent: it did not connect within ${BOOT_TIMEOUT_MS / 1000} s`;
			reject(new GuestError("ERR_AGENT_TIMEOUT", withConsole(message, machine)));
		}, BOOT_TIMEOUT_MS);
		void machine.ended.then(() => clearTimeout(timer));
	});
	try {
		return await Promise.race([machine.agent, timeout]);
	} finally {
		clearTimeout(timer);
	}
}

/** When the agent is lost, the machine's end, which follows at once, explains it better. */
async function orEarly<T>(work: Promise<T>, early: Promise<never>, machine: GuestMachine): Promise<T> {
	try {
		return await Promise.race([work, early]);
	} catch (error) {
		if (!(error instanceof TsvmmError) || error.code !== "ERR_AGENT_LOST") throw error;
		const grace = new Promise<void>((resolve) => setTimeout(resolve, 2000).unref());
		await Promise.race([machine.ended, grace]);
		await Promise.race([early, Promise.resolve()]);
		throw new GuestError("ERR_AGENT_LOST", withConsole(error.message, machine), { cause: error });
	}
}

function endedEarly(end: MachineEnd, machine: GuestMachine): TsvmmError {
	const known = endError(end);
	const message = `Cannot run the container to its end: ${describeEnd(end)}`;
	return new GuestError(known?.code ?? "ERR_GUEST_ENDED", withConsole(message, machine));
}

function withConsole(message: string, machine: GuestMachine): string {
	const tail = machine.consoleTail();
	return tail === "" ? message : `${message}\n  last lines of the guest's console:\n${tail.replace(/^/gm, "  | ")}`;
}

/** Connects the payload's streams with the user's; resolves when it has ended and its output is written. */
async function attach(session: Session, stdio: ContainerStdio): Promise<ExitStatus> {
	const { stdin, stdout, stderr, terminal } = stdio;
	const stopResize = terminal?.onResize(() => {
		const { columns, rows } = terminal.size();
		session.resize(columns, rows);
	});
	session.stdin.on("error", () => undefined);
	stdin?.pipe(session.stdin);
	try {
		const outputs = [copyOutput(session.stdout, stdout, session), copyOutput(session.stderr, stderr, session)];
		const exit = await session.exit;
		await Promise.all(outputs);
		return exit;
	} finally {
		stopResize?.();
		stdin?.unpipe(session.stdin);
		stdin?.pause();
	}
}

/** A reader that goes away (`| head`) is to the payload what it is to any process: SIGPIPE. */
async function copyOutput(from: Readable, to: Writable, session: Session): Promise<void> {
	const failed = () => {
		from.destroy();
		session.signal(SIGPIPE, true);
	};
	to.once("error", failed);
	from.pipe(to, { end: false });
	try {
		await finished(from);
		await new Promise<void>((resolve) => to.write("", () => resolve())); /* all of it is written */
	} catch {
		/* cut off by `failed` */
	} finally {
		to.off("error", failed);
	}
}

async function powerOff(client: AgentClient, machine: GuestMachine): Promise<void> {
	const late = new Promise<void>((resolve) => {
		const timer = setTimeout(resolve, POWER_OFF_TIMEOUT_MS);
		void machine.ended.then(() => clearTimeout(timer));
	});
	const off = client.powerOff().catch(() => undefined);
	await Promise.race([off.then(() => machine.ended), machine.ended, late]);
}

/** Signals of the host: to the payload once it runs; before that, and the third time, they end the machine. */
class SignalGate {
	readonly #unsubscribe: () => void;
	readonly #stop: () => void;
	#session: Session | undefined;
	#insistence = 0;
	#interrupted: number | undefined;

	constructor(stdio: ContainerStdio, stop: () => void) {
		this.#stop = stop;
		this.#unsubscribe = stdio.onSignal((signal) => this.#arrived(signal));
	}

	forward(session: Session): void {
		this.#session = session;
	}

	/** The error that stands for a signal that ended the machine. */
	interrupted(): TsvmmError | undefined {
		return this.#interrupted === undefined ? undefined : new InterruptedError(this.#interrupted);
	}

	close(): void {
		this.#unsubscribe();
	}

	#arrived(signal: number): void {
		if (signal === SIGINT || signal === SIGTERM) this.#insistence++;
		if (this.#session !== undefined && this.#insistence < INSISTENT) {
			this.#session.signal(signal);
			return;
		}
		this.#interrupted = signal;
		this.#stop();
	}
}

/** A signal ended the machine before the payload had a chance to; the exit status is 128 + n. */
export class InterruptedError extends TsvmmError {
	override readonly exitStatus: number;

	constructor(signal: number) {
		super("ERR_INTERRUPTED", `Cannot run the container to its end: stopped by signal ${signal}`);
		this.exitStatus = 128 + signal;
	}
}

/*
 * A container in the foreground, as `tsvmm run` has it: the user's streams, terminal and signals are the payload's, and
 * the payload's exit status is the result. The container itself is container.ts.
 */
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import type { ExecSpec } from "../agent/client.ts";
import type { ExitStatus } from "../agent/session.ts";
import { TsvmmError } from "../base/errors.ts";
import { Container, type ContainerPlan, type GuestMachine, type StartTimes } from "./container.ts";

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
export interface PhaseTimes extends StartTimes {
	payload: number;
}

export interface ContainerResult {
	/** 0 to 255; 128 + n for signal n. */
	status: number;
	times: PhaseTimes;
}

const { SIGINT, SIGTERM } = constants.signals;
/** Signals that end the machine while there is no payload yet: those that end any process. */
const ENDING: ReadonlySet<number> = new Set(
	(["SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGALRM", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const).map(
		(name) => constants.signals[name],
	),
);
/** As docker: whoever asks the third time means it. */
const INSISTENT = 3;

/**
 * Runs the payload and ends the machine, whatever happens.
 *
 * @throws ExecError when the payload cannot be started, GuestError when the machine ends before it does, InterruptedError
 */
export async function runOnMachine(
	machine: GuestMachine,
	plan: Omit<ContainerPlan, "process" | "signal"> & { process: ExecSpec },
	stdio: ContainerStdio,
): Promise<ContainerResult> {
	const signals = new SignalGate(stdio);
	const { terminal } = stdio;
	try {
		const container = await Container.start(machine, {
			...plan,
			process: () => {
				terminal?.raw();
				return terminalSpec(plan.process, stdio);
			},
			signal: signals.interrupted,
		});
		const started = performance.now();
		signals.forward(container);
		const exit = await Promise.race([attach(container, stdio), rejection(signals.interrupted)]);
		const payload = performance.now() - started;
		terminal?.restore();
		await container.ended;
		return { status: exitStatus(exit), times: { ...container.startTimes, payload } };
	} finally {
		terminal?.restore();
		signals.close();
		await machine.stop();
	}
}

/** 128 + n for signal n, as a shell has it. */
export function exitStatus(exit: ExitStatus): number {
	return "code" in exit ? exit.code : 128 + exit.signal;
}

function terminalSpec(exec: ExecSpec, { stdin, terminal }: ContainerStdio): ExecSpec {
	if (terminal !== undefined) return { ...exec, tty: terminal.size() };
	return stdin === undefined ? { ...exec, stdin: "null" } : exec;
}

/** Rejects with the signal's reason. */
function rejection(signal: AbortSignal): Promise<never> {
	const aborted = new Promise<never>((_, reject) => {
		signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
	});
	aborted.catch(() => undefined);
	return aborted;
}

/** Connects the payload's streams with the user's; resolves when it has ended and its output is written. */
async function attach(container: Container, stdio: ContainerStdio): Promise<ExitStatus> {
	const { stdin, stdout, stderr, terminal } = stdio;
	const stopResize = terminal?.onResize(() => {
		const { columns, rows } = terminal.size();
		container.resize(columns, rows);
	});
	stdin?.pipe(container.stdin);
	try {
		const outputs = [copyOutput(container.stdout, stdout, container), copyOutput(container.stderr, stderr, container)];
		const exit = await container.exit;
		await Promise.all(outputs);
		return exit;
	} finally {
		stopResize?.();
		stdin?.unpipe(container.stdin);
		stdin?.pause();
	}
}

/** A reader that goes away (`| head`) is to the payload what it is to any process: SIGPIPE. */
async function copyOutput(from: Readable, to: Writable, container: Container): Promise<void> {
	const failed = () => {
		from.destroy();
		container.kill("SIGPIPE", { group: true });
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

/** Signals of the host: to the payload once it runs; before that, and the third time, they end the machine. */
class SignalGate {
	readonly #unsubscribe: () => void;
	readonly #abort = new AbortController();
	#container: Container | undefined;
	#insistence = 0;

	constructor(stdio: ContainerStdio) {
		this.#unsubscribe = stdio.onSignal((signal) => this.#arrived(signal));
	}

	/** Aborted, with an InterruptedError, by a signal that ends the machine. */
	get interrupted(): AbortSignal {
		return this.#abort.signal;
	}

	forward(container: Container): void {
		this.#container = container;
	}

	close(): void {
		this.#unsubscribe();
	}

	#arrived(signal: number): void {
		if (signal === SIGINT || signal === SIGTERM) this.#insistence++;
		if (this.#container !== undefined && this.#insistence < INSISTENT) this.#container.kill(signal);
		else if (ENDING.has(signal)) this.#abort.abort(new InterruptedError(signal));
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

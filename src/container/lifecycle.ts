/*
 * A container in the foreground, for `tsvmm run`. The payload gets the user's streams, terminal and signals, and its
 * exit status is the result. The container itself is in container.ts.
 */
import { constants } from "node:os";
import type { ExecSpec } from "../agent/exec-spec.ts";
import { exitStatus } from "../agent/session.ts";
import { InterruptedError } from "../base/signals.ts";
import { attach, type ForegroundStdio } from "../host/foreground.ts";
import { Container, type ContainerPlan, type GuestMachine, type StartTimes } from "./container.ts";

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
/** Signals that end the machine before there is a payload. */
const ENDING: ReadonlySet<number> = new Set(
	(["SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGALRM", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const).map(
		(name) => constants.signals[name],
	),
);
/** How long a process may go on when nobody reads its output any more. */
const READERLESS_MS = 1000;
/** The third such signal stops the machine, as in docker. */
const INSISTENT = 3;

/**
 * Runs the payload, then ends the machine, also after a failure.
 *
 * @throws ExecError when the payload cannot be started, GuestError when the machine ends before it does, InterruptedError
 */
export async function runOnMachine(
	machine: GuestMachine,
	plan: Omit<ContainerPlan, "process" | "signal"> & { process: ExecSpec },
	stdio: ForegroundStdio,
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
		const readerGone = () => endWithoutReader(container);
		const attached = attach(container, stdio, readerGone);
		const exit = await Promise.race([attached, rejection(signals.interrupted)]);
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

/** As a pipe would; process 1 does not hear it unless it has a handler. */
function endWithoutReader(container: Container): void {
	container.kill("SIGPIPE", { group: true });
	const timer = setTimeout(() => container.kill("SIGKILL"), READERLESS_MS);
	const ended = () => clearTimeout(timer);
	void container.exit.then(ended, ended);
}

function terminalSpec(exec: ExecSpec, { stdin, terminal }: ForegroundStdio): ExecSpec {
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

/** Passes the host's signals on to the payload. Before it runs, and the third time, a signal ends the machine. */
class SignalGate {
	readonly #unsubscribe: () => void;
	readonly #abort = new AbortController();
	#container: Container | undefined;
	#insistence = 0;

	constructor(stdio: ForegroundStdio) {
		this.#unsubscribe = stdio.onSignal((signal) => this.#arrived(signal));
	}

	/** A signal that ends the machine aborts it with an InterruptedError. */
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
		else if (ENDING.has(signal)) this.#abort.abort(new InterruptedError("run the container to its end", signal));
	}
}

/*
 * A container's process, or one more in it, in the foreground: this command's streams, terminal and signals are the
 * process's, and its exit status is the command's.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { exitStatus, type Session } from "../../agent/session.ts";
import { errnoName } from "../../base/errors.ts";
import { InterruptedError } from "../../base/signals.ts";
import { attachToContainer, endedMeanwhile, stopContainer } from "../../container/life/commands.ts";
import type { StoredContainer } from "../../container/life/store.ts";
import { attach, type ForegroundStdio, ownStdio } from "../../host/foreground.ts";
import { openOutput } from "../../host/output.ts";
import { DetachKeys, readDetachKeys } from "../detach-keys.ts";
import { outputFailed, watchOutput } from "../output.ts";

export interface StreamFlags {
	interactive: boolean;
	tty: boolean;
	/** Leaves the process alone when it is typed; no key does when missing. */
	detachKeys?: string | undefined;
}

/** This command's own streams, and a way to leave the process alone. */
export interface CommandStdio extends ForegroundStdio {
	/** Told what to do when the keys are typed. */
	onDetach?: (leave: () => void) => void;
}

const { SIGINT, SIGKILL, SIGTERM, SIGPIPE } = constants.signals;
/** How long a process may go on when nobody reads its output any more. */
const READERLESS_MS = 1000;
/** How long the report of a start that has failed may take. */
const REPORT_MS = 2000;
/** The third SIGINT or SIGTERM ends the container, as in Docker. */
const INSISTENT = 3;
/** Signals that end the container before there is a process. */
const ENDING: ReadonlySet<number> = new Set(
	(["SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGALRM", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const).map(
		(name) => constants.signals[name],
	),
);

/** This process's own streams, terminal and signals. The caller closes them. */
export function commandStdio({ interactive, tty, detachKeys }: StreamFlags): CommandStdio & { close(): void } {
	const keys = detachKeys === undefined ? undefined : readDetachKeys(detachKeys);
	const opened = [openOutput(1), openOutput(2)];
	const [stdout, stderr] = opened;
	stdout?.on("error", outputFailed);
	stderr?.on("error", () => undefined); /* there is nobody left to tell */
	if (stdout === undefined) watchOutput();
	/* SIGPIPE: in the lab the reader of our output is far away, and its going is told by this signal. */
	const stdio = ownStdio({ stdin: interactive, tty, stdout, stderr, alsoForward: ["SIGPIPE"] });
	return {
		...stdio,
		...(keys === undefined || !interactive || !tty ? {} : watchKeys(process.stdin, keys)),
		close: () => {
			stdio.close();
			for (const stream of opened) stream?.destroy();
		},
	};
}

/** As in Docker, only a terminal's keys count. */
function watchKeys(from: Readable, keys: Buffer): Required<Pick<CommandStdio, "stdin" | "onDetach">> {
	let leave: (() => void) | undefined;
	const stdin = new DetachKeys(keys, () => leave?.());
	from.pipe(stdin);
	return {
		stdin,
		onDetach: (told) => {
			leave = told;
		},
	};
}

/**
 * Attaches to a container that is being started, and stays until its process has ended.
 *
 * @param launch how its start goes; undefined when it runs already
 * @returns the process's exit status
 * @throws what the container could not be started for; InterruptedError
 */
export async function attachForeground(
	container: StoredContainer,
	launch: Promise<void> | undefined,
	stdio: CommandStdio,
	onStarted: (session: Session) => void = () => undefined,
): Promise<number> {
	launch?.catch(() => undefined);
	const gate = new SignalGate(stdio, container);
	const { terminal } = stdio;
	try {
		const attaching = attachToContainer(container, terminal?.size());
		attaching.catch(() => undefined);
		let session: Session;
		try {
			session = await Promise.race([attaching, gate.interrupted]);
		} catch (error) {
			/* The supervisor's own words say more, and are here as soon. */
			if (!(error instanceof InterruptedError))
				await Promise.race([launch, sleep(REPORT_MS, undefined, { ref: false })]);
			throw error;
		}
		onStarted(session);
		stdio.onDetach?.(() => session.leave());
		gate.forward(session);
		terminal?.raw();
		const finished = finish(container, session, stdio);
		finished.catch(() => undefined);
		return await Promise.race([finished, gate.interrupted]);
	} finally {
		terminal?.restore();
		await gate.close();
	}
}

async function finish(container: StoredContainer, session: Session, stdio: ForegroundStdio): Promise<number> {
	try {
		return exitStatus(await attach(session, stdio, () => endWithoutReader(session)));
	} catch (error) {
		throw errnoName(error) === "ERR_AGENT_LOST" ? endedMeanwhile(container) : error;
	}
}

/** As a pipe would; process 1 does not hear it unless it has a handler. */
function endWithoutReader(session: Session): void {
	session.signal(SIGPIPE, true);
	const timer = setTimeout(() => session.signal(SIGKILL), READERLESS_MS);
	const ended = () => clearTimeout(timer);
	void session.exit.then(ended, ended);
}

/** One more process in the foreground, by a session that runs. */
export async function execForeground(session: Session, stdio: CommandStdio): Promise<number> {
	const { terminal } = stdio;
	try {
		stdio.onDetach?.(() => session.leave());
		terminal?.raw();
		return exitStatus(await attach(session, stdio, () => session.signal(SIGPIPE, true)));
	} finally {
		terminal?.restore();
	}
}

/** Signals of this command: to the process once it runs; before that, and the third time, they end the container. */
class SignalGate {
	/** Rejects when a signal has ended the container before its process ran. */
	readonly interrupted: Promise<never>;
	readonly #container: StoredContainer;
	readonly #unsubscribe: () => void;
	#reject!: (reason: Error) => void;
	#session: Session | undefined;
	#insistence = 0;
	#stopped: Promise<unknown> = Promise.resolve();

	constructor(stdio: ForegroundStdio, container: StoredContainer) {
		this.#container = container;
		this.interrupted = new Promise((_, reject) => {
			this.#reject = reject;
		});
		this.interrupted.catch(() => undefined);
		this.#unsubscribe = stdio.onSignal((signal) => this.#arrived(signal));
	}

	forward(session: Session): void {
		this.#session = session;
	}

	/** Resolves when the container has ended, if a signal ends it. */
	async close(): Promise<void> {
		this.#unsubscribe();
		await this.#stopped;
	}

	#arrived(signal: number): void {
		if (signal === SIGINT || signal === SIGTERM) this.#insistence++;
		if (this.#session !== undefined && this.#insistence < INSISTENT) this.#session.signal(signal);
		else if (ENDING.has(signal)) this.#end(signal);
	}

	#end(signal: number): void {
		this.#reject(new InterruptedError("run the container to its end", signal));
		/* Nobody reads its output any more. */
		this.#session?.close();
		this.#stopped = stopContainer(this.#container, { timeoutMs: 0 }).catch(() => undefined);
	}
}

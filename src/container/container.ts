/*
 * A container: one machine, the agent in it, and the process that the container runs. The object does not depend on the
 * command that made it. It has streams, an exit, more processes and signals. It knows the machine only as a
 * GuestMachine, so tests run it with the real agent and no VM.
 *
 *     start: machine boots -> agent connects -> SETUP -> EXEC      then: streams, exec, kill, stop
 *     the process's EXIT -> power off, or stop -> the machine ends: `ended`
 */
import { constants } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";
import { AgentClient } from "../agent/client.ts";
import type { ExecSpec } from "../agent/exec-spec.ts";
import type { ExitStatus, Session } from "../agent/session.ts";
import { GuestError, TsvmmError } from "../base/errors.ts";
import { describeShutdown, type ShutdownReason, shutdownError } from "../machine/shutdown-reason.ts";
import type { SetupStep } from "./setup-steps.ts";

/** A machine as a container sees it. */
export interface GuestMachine {
	start(): void;
	stop(): Promise<ShutdownReason>;
	/** Never rejects. */
	readonly ended: Promise<ShutdownReason>;
	/** The agent's connection. */
	readonly agent: Promise<Duplex>;
	/** The last lines of the guest's console. */
	consoleTail(): string;
}

/** What a container runs, and how. */
export interface ContainerPlan {
	steps: readonly SetupStep[];
	/** Steps in the agent's own root, before the others. */
	machineSteps?: readonly SetupStep[] | undefined;
	/** Called when everything is ready for the process. */
	process: () => ExecSpec;
	/** As `docker run --init`: process 1 only reaps; the container's process is another one. It is process 1 itself when missing. */
	init?: boolean | undefined;
	/** What `stop` sends; SIGTERM when missing. */
	stopSignal?: number | undefined;
	/**
	 * Somebody wants what it has written to its disk and to directories of the host: the guest brings it there and powers
	 * off. When missing, the machine is ended as soon as the process has ended.
	 */
	keeps?: boolean | undefined;
	/** Ends the machine at once. */
	signal?: AbortSignal | undefined;
}

/** How long each phase of a container's start took, in ms. */
export interface StartTimes {
	/** This process, from its start to the first instruction of the guest. */
	host: number;
	/** To the first instruction of the agent. */
	kernel: number;
	/** The agent, to the payload's start. */
	init: number;
}

/** What `start` has brought about. */
interface Started {
	machine: GuestMachine;
	client: AgentClient;
	/** The container's process. */
	session: Session;
	plan: ContainerPlan;
	spec: ExecSpec;
	/** Rejects when the machine has ended. */
	early: Promise<never>;
	startTimes: StartTimes;
}

/** A process to run in a running container. A missing field is as in the container's own process. */
export interface ContainerExec extends Pick<ExecSpec, "args" | "env" | "cwd" | "user" | "tty" | "stdin" | "tool"> {
	/** With all capabilities, also if the container's process has fewer. */
	privileged?: boolean;
	/** Sends the process SIGHUP, and SIGKILL soon after if it still runs. */
	signal?: AbortSignal;
}

/** What the agent calls the machine's one container. */
export const CONTAINER_NAME = "container";
const BOOT_TIMEOUT_MS = 120_000;
/** How long the kernel may take to end a process that was killed. */
const KILL_TIMEOUT_MS = 10_000;
/** The guest writes all that it holds in RAM to its disk before, which may be gigabytes. */
const POWER_OFF_TIMEOUT_MS = 300_000;
/** As docker stop. */
const STOP_TIMEOUT_MS = 10_000;

/**
 * A running container. It owns its machine, which ends when the container's process does.
 *
 * @example
 * await using container = await runContainer({ image: "alpine", args: ["cat"], stdin: "pipe" });
 * container.stdin.end("hello");
 * for await (const chunk of container.stdout) process.stdout.write(chunk);
 * console.log(await container.exit); // { code: 0 }
 */
export class Container implements AsyncDisposable {
	/** How the container's process ended. Rejects with GuestError or the signal's reason when the machine ended first. */
	readonly exit: Promise<ExitStatus>;
	/** Resolves when the machine has ended, for any reason. Never rejects. */
	readonly ended: Promise<ShutdownReason>;
	/** How long the phases of its start took. */
	readonly startTimes: StartTimes;
	readonly #machine: GuestMachine;
	readonly #client: AgentClient;
	readonly #session: Session;
	readonly #plan: ContainerPlan;
	readonly #spec: ExecSpec;
	readonly #early: Promise<never>;

	/**
	 * Boots `machine` and starts the process in it. The container owns the machine from now on.
	 *
	 * @throws ExecError when the process cannot be started, GuestError when the machine ends before, TsvmmError
	 * ERR_AGENT_TIMEOUT when the agent does not answer, the signal's reason. The machine has ended then.
	 * @internal `runContainer` calls it
	 */
	static async start(machine: GuestMachine, plan: ContainerPlan): Promise<Container> {
		const starting = performance.now();
		const { signal } = plan;
		let client: AgentClient | undefined;
		const abort = () => void machine.stop();
		/* Every wait for the agent ends when the machine ends: the agent cannot answer then. */
		const early = machine.ended.then((end): never => {
			signal?.removeEventListener("abort", abort);
			throw signal?.aborted ? signal.reason : endedEarly(end, machine);
		});
		early.catch(() => undefined);
		try {
			signal?.throwIfAborted();
			signal?.addEventListener("abort", abort, { once: true });
			machine.start();
			client = new AgentClient(await Promise.race([agentStream(machine), early]));
			const hello = await orEarly(client.hello({ timeoutMs: BOOT_TIMEOUT_MS }), early, machine);
			const greeted = performance.now();
			void client.setClock().catch(() => undefined); /* kvmclock has set it already on most kernels */
			const { machineSteps = [] } = plan;
			if (machineSteps.length > 0) await orEarly(client.setup(machineSteps), early, machine);
			await orEarly(client.setup(plan.steps, CONTAINER_NAME), early, machine);
			const spec = { ...plan.process(), container: CONTAINER_NAME, init: plan.init !== true };
			const session = await orEarly(client.exec(spec), early, machine);
			const inAgent = hello.nowMs - hello.startMs;
			const times = {
				host: starting,
				kernel: greeted - starting - inAgent,
				init: performance.now() - greeted + inAgent,
			};
			return new Container({ machine, client, session, plan, spec, early, startTimes: times });
		} catch (error) {
			client?.close();
			await machine.stop();
			throw error;
		}
	}

	private constructor({ machine, client, session, plan, spec, early, startTimes }: Started) {
		this.#machine = machine;
		this.#client = client;
		this.#session = session;
		this.#plan = plan;
		this.#spec = spec;
		this.#early = early;
		this.startTimes = startTimes;
		this.exit = orEarly(session.exit, early, machine);
		this.exit.catch(() => undefined); /* a caller that awaits it gets the error */
		this.ended = machine.ended;
		session.stdin.on("error", () => undefined);
		void this.exit.then(
			() => this.#endMachine(),
			() => this.#client.close(),
		);
	}

	/** Input of the container's process. Bytes that nobody reads are dropped. */
	get stdin(): Writable {
		return this.#session.stdin;
	}

	/** Its output. At most 256 KiB wait here for a reader. The rest waits in the guest. */
	get stdout(): Readable {
		return this.#session.stdout;
	}

	/** Its standard error. Empty if the process has a terminal. */
	get stderr(): Readable {
		return this.#session.stderr;
	}

	/**
	 * Starts one more process in the container. It ends with the container's own process at the latest.
	 *
	 * @throws ExecError when it cannot be started, TsvmmError ERR_AGENT_LOST or GuestError when the container has ended,
	 * the reason of a signal that is aborted already
	 */
	async exec({ signal, privileged = false, ...spec }: ContainerExec): Promise<Session> {
		signal?.throwIfAborted();
		const own = inherited(this.#spec, privileged);
		const starting = this.#client.exec({ ...own, ...spec, container: CONTAINER_NAME });
		const session = await orEarly(starting, this.#early, this.#machine);
		if (signal === undefined) return session;
		const close = () => session.close();
		if (signal.aborted) close();
		signal.addEventListener("abort", close, { once: true });
		const settled = () => signal.removeEventListener("abort", close);
		void session.exit.then(settled, settled);
		return session;
	}

	/**
	 * Sends a signal to the container's process. Nothing happens once that has ended. Process 1 hears only what it has
	 * handlers for, and SIGKILL and SIGSTOP.
	 *
	 * @param signal by name or number (default SIGKILL)
	 * @param options.group to its whole process group, as a terminal does (default false)
	 */
	kill(signal: NodeJS.Signals | number = "SIGKILL", { group = false }: { group?: boolean } = {}): void {
		this.#session.signal(typeof signal === "number" ? signal : constants.signals[signal], group);
	}

	/** Tells the process's terminal its new size. */
	resize(columns: number, rows: number): void {
		this.#session.resize(columns, rows);
	}

	/**
	 * Asks the process to end, with the image's stop signal or SIGTERM. Kills it if it takes too long. Resolves when the
	 * machine has ended.
	 *
	 * @param options.timeoutMs how long it may take (default 10000)
	 * @param options.signal sent in place of the image's
	 */
	async stop({
		timeoutMs = STOP_TIMEOUT_MS,
		signal = this.#plan.stopSignal ?? "SIGTERM",
	}: {
		timeoutMs?: number;
		signal?: NodeJS.Signals | number;
	} = {}): Promise<ShutdownReason> {
		this.kill(signal);
		if (await within(this.exit, timeoutMs)) return this.ended;
		this.kill("SIGKILL");
		if (!(await within(this.exit, KILL_TIMEOUT_MS))) await this.#machine.stop();
		return this.ended;
	}

	/** Ends the machine at once, with all processes in it. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#client.close();
		await this.#machine.stop();
	}

	/** The process has ended. */
	async #endMachine(): Promise<void> {
		if (this.#plan.keeps === true) {
			const off = this.#client.powerOff().then(() => this.ended);
			await within(off, POWER_OFF_TIMEOUT_MS);
		}
		this.#client.close();
		await this.#machine.stop();
	}
}

/** What one more process has of the container's own. */
function inherited(spec: ExecSpec, privileged: boolean): Partial<ExecSpec> {
	const { args: _args, tty: _tty, stdin: _stdin, init: _init, ...own } = spec;
	const { capabilities: _capabilities, noNewPrivileges: _nnp, ...unbound } = own;
	return privileged ? unbound : own;
}

/** True when `work` settled within `timeoutMs`, by success or by failure. */
async function within(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<false>((resolve) => {
		/* A timer that is given more than it can wait does not wait at all. */
		timer = setTimeout(() => resolve(false), Math.min(timeoutMs, 2 ** 31 - 1));
	});
	const settled = work.then(
		() => true,
		() => true,
	);
	try {
		return await Promise.race([settled, late]);
	} finally {
		clearTimeout(timer);
	}
}

async function agentStream(machine: GuestMachine): Promise<Duplex> {
	const stream = machine.agent;
	if (await within(Promise.race([stream, machine.ended]), BOOT_TIMEOUT_MS)) return await stream;
	const message = `Cannot reach the guest agent: it did not connect within ${BOOT_TIMEOUT_MS / 1000} s`;
	throw new GuestError("ERR_AGENT_TIMEOUT", withConsole(message, machine));
}

/** The agent was lost because the machine ends. The machine's end explains more. */
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

function endedEarly(end: ShutdownReason, machine: GuestMachine): TsvmmError {
	const known = shutdownError(end);
	const message = `Cannot run the container to its end: ${describeShutdown(end)}`;
	return new GuestError(known?.code ?? "ERR_GUEST_ENDED", withConsole(message, machine));
}

function withConsole(message: string, machine: GuestMachine): string {
	const tail = machine.consoleTail();
	return tail === "" ? message : `${message}\n  last lines of the guest's console:\n${tail.replace(/^/gm, "  | ")}`;
}

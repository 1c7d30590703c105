/*
 * A container: one machine, the agent in it, and the process that the container runs. The object does not depend on the
 * command that made it. It has streams, an exit, more processes and signals. It knows the machine only as a
 * GuestMachine, so tests run it with the real agent and no VM.
 *
 *     start: machine boots -> agent connects -> SETUP -> EXEC      then: streams, exec, kill, stop
 *     the process's EXIT -> power off, or stop -> the machine ends: `ended`
 */
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import type { ExecSpec } from "../agent/exec-spec.ts";
import type { HeldSession } from "../agent/held-session.ts";
import type { ExitStatus, Session } from "../agent/session.ts";
import { type Mark, Timeline } from "../base/timeline.ts";
import type { ShutdownReason } from "../machine/shutdown-reason.ts";
import { type BootTimes, type GuestMachine, RunningMachine, within } from "./running-machine.ts";
import type { SetupStep } from "./setup-steps.ts";

/** What a container runs, and how. */
export interface ContainerPlan extends ProcessPlan {
	/** Steps in the agent's own root, before the others. */
	machineSteps?: readonly SetupStep[] | undefined;
	/**
	 * Somebody wants what it has written to its disk and to directories of the host: the guest brings it there and powers
	 * off. When missing, the machine is ended as soon as the process has ended.
	 */
	keeps?: boolean | undefined;
}

/** A container's process in a machine that may have others. */
export interface JoinPlan extends ProcessPlan {
	/** What the agent calls the container. */
	name: string;
	/**
	 * Gives back what the container has of the machine: called when the process has ended or could not be started, and
	 * once more when that has to end at once. Never rejects.
	 *
	 * @param failed at once: nothing of what was written need be kept
	 */
	release: (failed: boolean) => Promise<ShutdownReason>;
}

/** A container's process. */
interface ProcessPlan {
	steps: readonly SetupStep[];
	/** Called when everything is ready for the process. */
	process: () => ExecSpec;
	/** As `docker run --init`: process 1 only reaps; the container's process is another one. It is process 1 itself when missing. */
	init?: boolean | undefined;
	/** What `stop` sends; SIGTERM when missing. */
	stopSignal?: number | undefined;
	/** Ends the container at once. */
	signal?: AbortSignal | undefined;
}

/** How long each phase of a container's start took, in ms. */
export interface StartTimes {
	/** This process, from its start to the first instruction of the guest, without `restore`. */
	host: number;
	/** To the first instruction of the agent; missing when the machine was made of a template. */
	kernel?: number | undefined;
	/** Making the machine of its template, with its disks and networks; missing when it boots. */
	restore?: number | undefined;
	/** From the guest's first instruction until its agent was greeted; missing when the machine boots. */
	agent?: number | undefined;
	/** The agent, to the payload's start. */
	init: number;
}

/** What `join` has brought about. */
interface Joined {
	machine: RunningMachine;
	/** The container's process. */
	session: Session;
	plan: JoinPlan;
	spec: ExecSpec;
	startTimes: StartTimes;
	marks: readonly Mark[];
}

/** A process to run in a running container. A missing field is as in the container's own process. */
export interface ContainerExec extends Pick<ExecSpec, "args" | "env" | "cwd" | "user" | "tty" | "stdin" | "tool"> {
	/** With all capabilities, also if the container's process has fewer. */
	privileged?: boolean;
	/** Sends the process SIGHUP, and SIGKILL soon after if it still runs. */
	signal?: AbortSignal;
}

/** What the agent calls the container that its machine was booted for. */
export const CONTAINER_NAME = "container";
/** How long the kernel may take to end a process that was killed. */
const KILL_TIMEOUT_MS = 10_000;
/** As docker stop. */
const STOP_TIMEOUT_MS = 10_000;

/**
 * A running container. Unless it has joined another's machine, it owns its machine, which ends when the container's
 * process does.
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
	/**
	 * Resolves when the container is over, for any reason: its machine has ended, or has been given back what the
	 * container had of it. Never rejects.
	 */
	readonly ended: Promise<ShutdownReason>;
	/** How long the phases of its start took. */
	readonly startTimes: StartTimes;
	/**
	 * What the start of its process has reached when.
	 *
	 * @internal
	 */
	readonly marks: readonly Mark[];
	readonly #machine: RunningMachine;
	readonly #session: Session;
	readonly #plan: JoinPlan;
	readonly #spec: ExecSpec;

	/**
	 * Boots `machine` and starts the process in it. The container owns the machine from now on.
	 *
	 * @throws ExecError when the process cannot be started, GuestError when the machine ends before, TsvmmError
	 * ERR_AGENT_TIMEOUT when the agent does not answer, the signal's reason. The machine has ended then.
	 * @internal `runContainer` calls it
	 */
	static async start(machine: GuestMachine, plan: ContainerPlan): Promise<Container> {
		const { machineSteps: steps = [], signal } = plan;
		return await Container.inMachine(await RunningMachine.boot(machine, { steps, signal }), plan);
	}

	/**
	 * Starts the process in a machine that has none yet, and that it owns from now on.
	 *
	 * @throws as start
	 * @internal
	 */
	static async inMachine(running: RunningMachine, plan: ContainerPlan): Promise<Container> {
		const { keeps = false } = plan;
		const release = (failed: boolean) => (keeps && !failed ? running.powerOff() : running.stop());
		return await Container.join(running, { ...plan, name: CONTAINER_NAME, release });
	}

	/**
	 * Starts a container's process in a machine that runs.
	 *
	 * @throws as start; `release` was called then
	 * @internal
	 */
	static async join(machine: RunningMachine, plan: JoinPlan): Promise<Container> {
		const { client, times } = machine;
		const starting = performance.now();
		const { signal } = plan;
		const timeline = new Timeline();
		const aborted = new Promise<never>((_, reject) => {
			signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
		});
		aborted.catch(() => undefined);
		const settled = <T>(work: Promise<T>) => machine.orEarly(Promise.race([work, aborted]));
		try {
			signal?.throwIfAborted();
			await settled(client.setup(plan.steps, plan.name));
			timeline.mark("mounts");
			const spec = { ...plan.process(), container: plan.name, init: plan.init !== true };
			const session = await settled(client.exec(spec));
			timeline.mark("payload");
			machine.begun();
			const startTimes = plan.name === CONTAINER_NAME ? phases(times) : { host: 0, init: performance.now() - starting };
			return new Container({ machine, session, plan, spec, startTimes, marks: timeline.marks });
		} catch (error) {
			await plan.release(true);
			throw error;
		}
	}

	/**
	 * Goes on with a process that runs in the machine already, which was saved with it.
	 *
	 * @param held its session, and its number in the guest
	 * @internal
	 */
	static takeOver(machine: RunningMachine, plan: JoinPlan, held: { session: HeldSession; pid: number }): Container {
		const session = machine.client.takeOver(held.session, held.pid);
		const spec = { ...plan.process(), container: plan.name, init: plan.init !== true };
		return new Container({ machine, session, plan, spec, startTimes: phases(machine.times), marks: [] });
	}

	private constructor({ machine, session, plan, spec, startTimes, marks }: Joined) {
		this.#machine = machine;
		this.#session = session;
		this.#plan = plan;
		this.#spec = spec;
		this.startTimes = startTimes;
		this.marks = marks;
		this.exit = machine.orEarly(session.exit);
		session.stdin.on("error", () => undefined);
		this.ended = this.exit.then(
			() => plan.release(false),
			() => plan.release(true),
		);
	}

	/**
	 * The session of its process at the agent, and the process's number in the guest.
	 *
	 * @internal
	 */
	get session(): Pick<Session, "id" | "pid"> {
		return this.#session;
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
		const starting = this.#machine.client.exec({ ...own, ...spec, container: this.#plan.name });
		const session = await this.#machine.orEarly(starting);
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
	 * container is over.
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
		if (!(await within(this.exit, KILL_TIMEOUT_MS))) return await this.#plan.release(true);
		return this.ended;
	}

	/** Ends the container at once, with all processes in it. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.#plan.release(true);
	}
}

/** The process has just started. */
function phases({ host, kernel, restore, agent, greeted }: BootTimes): StartTimes {
	const init = performance.now() - greeted;
	return kernel === undefined ? { host, restore, agent, init } : { host, kernel, init: init + agent };
}

/** What one more process has of the container's own. */
function inherited(spec: ExecSpec, privileged: boolean): Partial<ExecSpec> {
	const { args: _args, tty: _tty, stdin: _stdin, init: _init, ...own } = spec;
	const { capabilities: _capabilities, noNewPrivileges: _nnp, ...unbound } = own;
	return privileged ? unbound : own;
}

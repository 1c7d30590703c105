/*
 * A machine whose agent answers, so that containers can join it: the one container of `run`, or the members of a pod.
 *
 *     boot: machine boots -> agent connects -> HELLO -> SETUP of the machine      then: Container.join, any number
 */
import type { Duplex } from "node:stream";
import { AgentClient } from "../agent/client.ts";
import type { Hello } from "../agent/protocol.ts";
import { GuestError, TsvmmError } from "../base/errors.ts";
import { clockMs, type Mark, Timeline } from "../base/timeline.ts";
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
	/** How long it took to make it of a template; missing when it boots. */
	readonly restoredMs?: number | undefined;
	/** When this process was taken from a pool, on performance's clock; missing when it was started for a container. */
	readonly takenMs?: number | undefined;
	/** Told when a container's process has begun, which may be several times. */
	readonly begun?: (() => void) | undefined;
	/** Its agent has sessions that this host goes on with; false when missing. */
	readonly hasSessions?: boolean | undefined;
	/** A debugger may stop it: nobody gives up waiting for its agent. False when missing. */
	readonly patient?: boolean | undefined;
}

/** How long the phases of a machine's start took, in ms. */
export interface BootTimes {
	/** This process, from its start (or since it was taken from a pool) to the first instruction of the guest, without `restore`. */
	host: number;
	/** To the first instruction of the agent; missing when the machine was made of a template. */
	kernel?: number | undefined;
	/** Making the machine of its template; missing when it boots. */
	restore?: number | undefined;
	/** The agent, until it was greeted. */
	agent: number;
	/** When it was greeted, on performance's clock. */
	greeted: number;
}

/** A machine whose agent has answered. */
interface Greeted {
	machine: GuestMachine;
	client: AgentClient;
	early: Promise<never>;
	times: BootTimes;
	kernelZeroMs: number | undefined;
	marks: readonly Mark[];
}

const BOOT_TIMEOUT_MS = 120_000;
/** The agent of a template asks for its host many times a second. */
const RESTORE_TIMEOUT_MS = 60_000;
/** The guest writes all that it holds in RAM to its disk before, which may be gigabytes. */
const POWER_OFF_TIMEOUT_MS = 300_000;

export class RunningMachine {
	readonly client: AgentClient;
	readonly times: BootTimes;
	/** When the clock of its kernel was zero, on `clockMs`; undefined when the machine did not boot. */
	readonly kernelZeroMs: number | undefined;
	/** What its start has reached when. */
	readonly marks: readonly Mark[];
	readonly #machine: GuestMachine;
	/** Rejects when the machine has ended. */
	readonly #early: Promise<never>;

	/**
	 * Boots `machine`, which belongs to the object from then on.
	 *
	 * @param options.steps in the agent's own root, before any container
	 * @param options.signal ends the machine, also later
	 * @throws GuestError when the machine ends before, TsvmmError ERR_AGENT_TIMEOUT when the agent does not answer, the
	 * signal's reason. The machine has ended then.
	 */
	static async boot(
		machine: GuestMachine,
		{ steps = [], signal }: { steps?: readonly SetupStep[] | undefined; signal?: AbortSignal | undefined } = {},
	): Promise<RunningMachine> {
		const host = performance.now();
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
			const timeline = new Timeline();
			machine.start();
			timeline.mark("start");
			const { patient } = machine;
			client = new AgentClient(await Promise.race([agentStream(machine), early]), { patient });
			const hello = await orEarly(
				client.hello({ timeoutMs: BOOT_TIMEOUT_MS, forget: machine.hasSessions !== true }),
				early,
				machine,
			);
			const greeted = performance.now();
			const greetedMs = clockMs();
			timeline.mark("agent", greetedMs);
			void client.setClock().catch(() => undefined); /* kvmclock has set it already on most kernels */
			const times = timesOf(machine, hello, host, greeted);
			const kernelZeroMs = times.kernel === undefined ? undefined : greetedMs - hello.nowMs;
			if (kernelZeroMs !== undefined) timeline.mark("kernel", kernelZeroMs + hello.startMs);
			if (steps.length > 0) await orEarly(client.setup(steps), early, machine);
			timeline.mark("setup");
			return new RunningMachine({ machine, client, early, times, kernelZeroMs, marks: timeline.marks });
		} catch (error) {
			client?.close();
			await machine.stop();
			throw error;
		}
	}

	private constructor({ machine, client, early, times, kernelZeroMs, marks }: Greeted) {
		this.#machine = machine;
		this.client = client;
		this.#early = early;
		this.times = times;
		this.kernelZeroMs = kernelZeroMs;
		this.marks = marks;
	}

	/** Resolves when the machine has ended, for any reason. Never rejects. */
	get ended(): Promise<ShutdownReason> {
		return this.#machine.ended;
	}

	/** A container's process has begun. */
	begun(): void {
		this.#machine.begun?.();
	}

	/** What the agent was asked for. When the machine ends before, fails with that. */
	async orEarly<T>(work: Promise<T>): Promise<T> {
		return await orEarly(work, this.#early, this.#machine);
	}

	/** Lets the guest bring all that was written to its disks, and ends the machine. */
	async powerOff(): Promise<ShutdownReason> {
		await within(
			this.client.powerOff().then(() => this.ended),
			POWER_OFF_TIMEOUT_MS,
		);
		return await this.stop();
	}

	/** Ends the machine at once, with all processes in it. */
	async stop(): Promise<ShutdownReason> {
		this.client.close();
		return await this.#machine.stop();
	}
}

/** True when `work` settled within `timeoutMs`, by success or by failure. */
export async function within(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
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

/** The agent of a template has begun long before. */
function timesOf(
	{ restoredMs, takenMs = 0 }: GuestMachine,
	{ nowMs, startMs }: Pick<Hello, "nowMs" | "startMs">,
	host: number,
	greeted: number,
): BootTimes {
	if (restoredMs !== undefined) {
		return { host: host - takenMs - restoredMs, restore: restoredMs, agent: greeted - host, greeted };
	}
	const agent = nowMs - startMs;
	return { host, kernel: greeted - host - agent, agent, greeted };
}

async function agentStream(machine: GuestMachine): Promise<Duplex> {
	const stream = machine.agent;
	const timeoutMs = machine.restoredMs === undefined ? BOOT_TIMEOUT_MS : RESTORE_TIMEOUT_MS;
	if (machine.patient) {
		await Promise.race([stream, machine.ended]);
		return await stream;
	}
	if (await within(Promise.race([stream, machine.ended]), timeoutMs)) return await stream;
	const message = `Cannot reach the guest agent: it did not connect within ${timeoutMs / 1000} s`;
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

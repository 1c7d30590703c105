/*
 * A container's own machine, made for each start of its process: of a template, or it boots. It ends with the process, and
 * so do the containers that have joined it.
 */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentBroker } from "../../agent/broker.ts";
import type { HeldSession } from "../../agent/held-session.ts";
import { duplexPair } from "../../backends/duplex-pair.ts";
import { ignore, StateError } from "../../base/errors.ts";
import type { Timeline } from "../../base/timeline.ts";
import type { Machine } from "../../machine/machine.ts";
import { CONTAINER_NAME, Container, type JoinPlan } from "../container.ts";
import { readKernelMarks } from "../kernel-marks.ts";
import type { GuestMachine, RunningMachine } from "../running-machine.ts";
import { prepareTemplate } from "../template/background.ts";
import { startMachine } from "../template/start.ts";
import type { TemplateShape } from "../template/store.ts";
import { type BootedContainer, type BootOptions, bootContainer, reviveContainer } from "./boot.ts";
import type { ContainerHost, ProcessStart, SnapshotRequest } from "./container-host.ts";
import type { GuestMemoryUse } from "./control.ts";
import type { Debugged } from "./debugged.ts";
import type { MachineNetworks } from "./machine-networks.ts";
import { MemberDevices, type MemberMachine, type PrepareMember } from "./member-devices.ts";
import { Members } from "./members.ts";
import { companionOf, mustBeSavable, readSavedContainer } from "./saved-container.ts";
import { SharedMachine } from "./shared-machine.ts";
import type { StoredContainer } from "./store.ts";

/** Makes the machine of a container. Tests have machines of their own. */
export type BootContainer = (
	container: Pick<StoredContainer, "config" | "paths">,
	signal: AbortSignal,
	options: Pick<BootOptions, "observer">,
) => Promise<BootedContainer>;

/** A container that ends before is not kept waiting by the start of another process. */
const PREPARE_MS = 2000;
/** How long the guest may take to tell of its memory. */
const STATISTICS_MS = 500;

export class OwnMachine implements ContainerHost {
	readonly #boot: BootContainer;
	readonly #prepare: PrepareMember | undefined;
	/** The snapshot that the first start goes on from. */
	#revived: string | undefined;
	#container: Container | undefined;
	#machine: BootedContainer["machine"] | undefined;
	#guest: GuestMachine | undefined;
	#members: Members | undefined;
	#broker: AgentBroker | undefined;
	#networks: MachineNetworks | undefined;
	#lacking: TemplateShape | undefined;
	#debugged: Debugged | undefined;

	/**
	 * @param prepare makes the devices of containers that join; tests have none
	 * @param revived the snapshot that the first start goes on from
	 */
	constructor(boot: BootContainer = bootContainer, prepare?: PrepareMember, revived?: string) {
		this.#boot = boot;
		this.#prepare = prepare;
		this.#revived = revived;
	}

	get networks(): MachineNetworks | undefined {
		return this.#networks;
	}

	/** From before its start on. A test's machine is only a part of one. */
	get machine(): Machine | undefined {
		return this.#machine as Machine | undefined;
	}

	consoleTail(): string {
		return this.#guest?.consoleTail() ?? "";
	}

	get broker(): AgentBroker | undefined {
		return this.#broker;
	}

	async start(stored: StoredContainer, starting: ProcessStart): Promise<Container> {
		const { process, awaited, signal, warn, timeline, notes, debug } = starting;
		const { config, paths } = stored;
		const path = this.#revived;
		this.#revived = undefined;
		const saved = path === undefined ? undefined : await readSavedContainer(path);
		let broker: AgentBroker | undefined;
		const observer = await notes?.observer();
		const { created, running } = await startMachine(
			(cold) =>
				path === undefined
					? this.#boot(cold ? { config: { ...config, cold }, paths } : stored, signal, { observer })
					: reviveContainer(path, stored, signal),
			{
				/* What a template has done already cannot be debugged. */
				cold: debug?.gdbWait,
				signal,
				warn,
				prepare: async ({ guest, machine, networks, broker: known, faults }) => {
					this.#machine = machine;
					this.#guest = guest;
					this.#networks = networks;
					if (faults !== undefined) void guest.ended.then(() => notes?.tell(faults));
					await unlessAborted(awaited, signal, guest);
					if (debug !== undefined) await this.#watch(machine, guest, starting);
					const onBroker = (made: AgentBroker) => {
						broker = made;
						this.#broker = made;
					};
					const agent = { known, held: saved?.sessions, patient: debug !== undefined };
					return brokered(guest, onBroker, agent);
				},
			},
		);
		if (timeline !== undefined) await noteStart(timeline, created, running);
		const { guest, machine, networks, ...plan } = created;
		/* A machine without slots is a test's: nothing comes to it or goes. */
		networks?.started(machine as MemberMachine, running);
		const prepare = this.#prepare ?? memberDevices(machine, running, networks);
		const members = new Members(new SharedMachine(running, broker, prepare));
		this.#members = members;
		void guest.ended.then(() => {
			broker?.close();
			if (this.#broker === broker) this.#broker = undefined;
		});
		/* Its disk goes with it. */
		const isDiscarded = config.autoRemove && config.mounts.length === 0;
		const keeps = plan.keeps === true && !isDiscarded;
		if (!hasOwnKernel(config)) this.#lacking = plan.lacksTemplate;
		void sleep(PREPARE_MS, undefined, { ref: false }).then(() => this.prepareTemplate());
		const joining: JoinPlan = {
			name: CONTAINER_NAME,
			steps: plan.steps,
			init: config.process.init,
			process,
			stopSignal: config.stopSignal,
			signal,
			release: async (failed) => {
				if (!failed) await members.close({ timeoutMs: 0 });
				const reason = await (keeps && !failed ? running.powerOff() : running.stop());
				await members.close({ timeoutMs: 0 });
				await this.#debugged?.close();
				return reason;
			},
		};
		if (saved === undefined) {
			this.#container = await Container.join(running, joining);
			timeline?.add(this.#container.marks);
		} else {
			const session = saved.sessions.find(({ role }) => role === "main")!;
			this.#container = Container.takeOver(running, joining, { session, pid: saved.pid });
			broker?.release();
		}
		return this.#container;
	}

	/** Lets debuggers at the machine. When that fails, the machine ends. */
	async #watch(machine: BootedContainer["machine"], guest: GuestMachine, { debug, notes }: ProcessStart) {
		const { Debugged } = await import("./debugged.ts");
		try {
			/* Its machine may have come back to no life. */
			await this.#debugged?.close();
			this.#debugged = await Debugged.open(machine as Machine, debug!, (line) => notes?.say(line));
		} catch (error) {
			await guest.stop();
			throw error;
		}
	}

	async snapshot(stored: StoredContainer, { path, isPaused, ...options }: SnapshotRequest): Promise<void> {
		mustBeSavable(stored);
		const machine = this.#machine;
		const broker = this.#broker;
		const { id, pid } = this.#container!.session;
		if (machine?.snapshot === undefined || broker === undefined || this.#members?.isEmpty === false) {
			const message = `Cannot take a snapshot of container ${stored.shortId}: others have joined its machine`;
			throw new StateError("ERR_SNAPSHOT_CONTAINER", message, { hint: "Stop those first" });
		}
		/* The agent has to answer. */
		if (isPaused) machine.resume();
		try {
			const sessions = await broker.hold(id);
			try {
				const companion = await companionOf(stored, { pid, sessions });
				await machine.pause();
				await machine.snapshot(path, { ...options, with: companion });
			} finally {
				broker.release();
			}
		} finally {
			/* A machine that has ended does neither. */
			await (async () => (isPaused ? await machine.pause() : machine.resume()))().catch(ignore);
		}
	}

	async memory(): Promise<GuestMemoryUse | undefined> {
		const balloon = this.#machine?.balloon;
		if (balloon === undefined) return undefined;
		const { freeBytes, availableBytes } = (await balloon.statistics(STATISTICS_MS)) ?? {};
		return { freeBytes, availableBytes, givenBackBytes: balloon.givenBackBytes };
	}

	/** Starts to make the template that the last machine would have been made of, if it had to boot. */
	async prepareTemplate(): Promise<void> {
		const shape = this.#lacking;
		this.#lacking = undefined;
		if (shape !== undefined) await prepareTemplate(shape);
	}

	/** Starts another container in the machine. @throws why it does not run */
	async join(id: string, awaitAttach: boolean): Promise<void> {
		await this.#members?.join(id, awaitAttach);
	}

	async pause(): Promise<void> {
		await this.#machine?.pause();
	}

	async unpause(): Promise<void> {
		this.#machine?.resume();
	}
}

async function noteStart(timeline: Timeline, { marks = [] }: BootedContainer, running: RunningMachine): Promise<void> {
	timeline.add([...marks, ...running.marks]);
	timeline.add(await readKernelMarks(running));
}

/** A kernel of the user's own may soon be another one. */
function hasOwnKernel({ kernel }: StoredContainer["config"]): boolean {
	return kernel?.includes("/") === true;
}

function memberDevices(
	machine: BootedContainer["machine"],
	running: RunningMachine,
	networks: MachineNetworks | undefined,
): PrepareMember {
	const devices = new MemberDevices(machine as MemberMachine, running, () => networks?.guests ?? []);
	return (container, signal) => devices.prepare(container, signal);
}

/** What is known of an agent. */
interface BrokeredAgent {
	/** It has this broker already. */
	readonly known?: AgentBroker | undefined;
	/** Sessions of it that an earlier host has begun. */
	readonly held?: readonly HeldSession[] | undefined;
	/** A debugger may stop its machine. */
	readonly patient?: boolean | undefined;
}

/** A machine whose agent has many clients: this process is one of the broker's. Its methods work apart from it. */
export function brokered(
	guest: GuestMachine,
	onBroker: (broker: AgentBroker) => void,
	{ known, held = [], patient }: BrokeredAgent = {},
): GuestMachine {
	const share = (stream: Duplex) => {
		const broker = known ?? new AgentBroker(stream, undefined, held);
		onBroker(broker);
		const [ours, brokers] = duplexPair();
		broker.attach(brokers);
		return ours;
	};
	return {
		start: () => guest.start(),
		stop: () => guest.stop(),
		ended: guest.ended,
		agent: guest.agent.then(share),
		consoleTail: () => guest.consoleTail(),
		restoredMs: guest.restoredMs,
		takenMs: guest.takenMs,
		begun: () => guest.begun?.(),
		hasSessions: held.length > 0,
		patient,
	};
}

/** The machine ends when the wait does. */
async function unlessAborted(awaited: Promise<void>, signal: AbortSignal, guest: GuestMachine): Promise<void> {
	const aborted = new Promise<never>((_, reject) => {
		signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
	});
	aborted.catch(() => undefined);
	try {
		await Promise.race([awaited, aborted]);
	} catch (error) {
		await guest.stop();
		throw error;
	}
}

/*
 * The supervisor of a pod: the process that owns its machine, and watches the containers in it (life/members.ts). It ends
 * when it is asked to, or with the machine.
 *
 *     join, stop, wait --control socket--> members -> SupervisedContainer, with sockets, log and state of its own
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import type { AgentBroker } from "../../agent/broker.ts";
import { StateError } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import { Teardown } from "../../base/teardown.ts";
import { answerRequests, failureOf } from "../../host/request-socket.ts";
import type { ControlAnswer, ControlRequest } from "../life/control.ts";
import { recordPodEvent } from "../life/events.ts";
import { containerKernel } from "../life/kernel.ts";
import { withContainerLock } from "../life/lock.ts";
import { MachineNetworks } from "../life/machine-networks.ts";
import { MemberDevices, type PrepareMember } from "../life/member-devices.ts";
import { Members } from "../life/members.ts";
import { brokered } from "../life/own-machine.ts";
import { SharedMachine } from "../life/shared-machine.ts";
import { type ContainerState, writeState } from "../life/state.ts";
import { onSignals } from "../life/supervisor.ts";
import { createSharedMachine } from "../run.ts";
import type { RunningMachine } from "../running-machine.ts";
import { type StartableMachine, startMachine } from "../template/start.ts";
import type { StoredPod } from "./store.ts";

/** A pod's machine that is ready to start. */
export interface BootedPod extends StartableMachine {
	/** How it is made ready for a container, once it runs. */
	members: (running: RunningMachine) => PrepareMember;
}

export interface SupervisePodOptions {
	/** Called when the machine runs, or with why it does not; the first call counts. */
	onReady: (error?: unknown) => void;
	/** Makes the machine. Tests have machines of their own. */
	boot?: (pod: StoredPod, signal: AbortSignal, cold: boolean) => Promise<BootedPod>;
}

/** Owns a pod's machine until it has ended. @throws HostError ERR_CONTAINER_RUNNING when another process does */
export async function supervisePod(pod: StoredPod, options: SupervisePodOptions): Promise<void> {
	await withContainerLock(pod, () => new PodSupervisor(pod, options).run(), "pod");
}

class PodSupervisor {
	readonly #pod: StoredPod;
	readonly #options: SupervisePodOptions;
	readonly #abort = new AbortController();
	readonly #stopped: Promise<void>;
	#stop!: () => void;
	/** How long containers may take to end. */
	#timeoutMs: number | undefined;
	#state: ContainerState;
	#members: Members | undefined;
	#ended: Promise<void> = Promise.resolve();

	constructor(pod: StoredPod, options: SupervisePodOptions) {
		this.#pod = pod;
		this.#options = options;
		this.#state = { ...pod.state(), pid: process.pid };
		this.#stopped = new Promise((resolve) => {
			this.#stop = resolve;
		});
	}

	async run(): Promise<void> {
		let end!: () => void;
		this.#ended = new Promise((resolve) => {
			end = resolve;
		});
		try {
			await this.#runOnce();
			await this.#write({ status: "exited", pid: 0, exitCode: 0, finishedAt: new Date().toISOString() });
		} catch (error) {
			const failure = failureOf(error, "ERR_CONTAINER_FAILED");
			const status = this.#state.startedAt === "" ? "created" : "exited";
			await this.#write({ status, pid: 0, exitCode: 125, error: failure, finishedAt: new Date().toISOString() });
			this.#options.onReady(error);
		} finally {
			end();
		}
	}

	async #runOnce(): Promise<void> {
		const { boot = bootPod, onReady } = this.#options;
		const { signal } = this.#abort;
		const teardown = new Teardown();
		try {
			await using _signals = onSignals(() => this.#end());
			await this.#write({});
			teardown.add(await this.#listen());
			let broker: AgentBroker | undefined;
			const { created, running } = await startMachine((cold) => boot(this.#pod, signal, cold), {
				signal,
				prepare: async ({ guest }) =>
					brokered(guest, (made) => {
						broker = made;
					}),
				warn: (message) => log("warn", message),
			});
			try {
				this.#members = new Members(new SharedMachine(running, broker, created.members(running)));
				await this.#write({ status: "running", startedAt: new Date().toISOString(), finishedAt: "" });
				recordPodEvent(this.#pod.config, "start");
				onReady();
				/* Rejects with why the machine has ended by itself. */
				await running.orEarly(this.#stopped);
				await this.#members.close(this.#timeoutMs === undefined ? {} : { timeoutMs: this.#timeoutMs });
				await running.powerOff();
			} finally {
				await running.stop();
				broker?.close();
				await this.#members?.close({ timeoutMs: 0 });
				if (this.#state.status === "running") recordPodEvent(this.#pod.config, "die");
			}
		} finally {
			await teardown.run();
		}
	}

	async #listen(): Promise<() => Promise<void>> {
		const { sockets, control } = this.#pod.paths;
		/* What a supervisor that was killed has left. */
		rmSync(sockets, { recursive: true, force: true });
		mkdirSync(sockets, { recursive: true, mode: 0o700 });
		chmodSync(sockets, 0o700);
		const close = await answerRequests(control, (request) => this.#answer(request as ControlRequest));
		return async () => {
			await close();
			rmSync(sockets, { recursive: true, force: true });
		};
	}

	async #answer(request: ControlRequest): Promise<ControlAnswer> {
		try {
			if (request.do === "stop") {
				await this.#end(request.timeoutMs);
				return {};
			}
			if (request.do === "join" && this.#members !== undefined) {
				await this.#members.join(request.id, request.awaitAttach);
				return {};
			}
			throw new StateError(
				"ERR_CONTAINER_NOT_RUNNING",
				`Cannot ${request.do} pod ${this.#pod.shortId}: it does not run`,
			);
		} catch (error) {
			return { failure: failureOf(error, "ERR_CONTAINER_FAILED") };
		}
	}

	/** Resolves when the machine has ended. */
	async #end(timeoutMs?: number): Promise<void> {
		this.#timeoutMs = timeoutMs;
		this.#stop();
		/* A start that is under way has no containers to wait for. */
		if (this.#members === undefined)
			this.#abort.abort(new StateError("ERR_CONTAINER_FAILED", "Cannot start the pod: it was stopped"));
		await this.#ended;
	}

	async #write(change: Partial<ContainerState>): Promise<void> {
		const { error: _, ...before } = this.#state;
		this.#state = { ...before, ...change };
		await writeState(this.#pod.paths, this.#state);
	}
}

async function bootPod({ config }: StoredPod, signal: AbortSignal, cold: boolean): Promise<BootedPod> {
	const { cpus, memoryMiB, id, name } = config;
	const kernel = await containerKernel(config.kernel, { signal });
	const networks = await MachineNetworks.join({ id, name, hostname: name, network: config.network }, signal);
	const { configs } = networks;
	const options = { kernel, cpus, memoryMiB, cold, ...(configs === undefined ? {} : { networks: configs }) };
	const booted = await createSharedMachine(options, signal);
	return {
		...booted,
		members: (running) => {
			const devices = new MemberDevices(booted.machine, running, () => networks.guests);
			return (container, abort) => devices.prepare(container, abort);
		},
	};
}

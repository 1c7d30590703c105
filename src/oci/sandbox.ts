/*
 * The machine of a container, or of the containers of a pod. One virtio-fs device carries the directories of all of
 * them (backends/host-directory/host-tree.ts), so a container that comes later needs no device of its own.
 *
 *     open: KVM, RAM, devices      boot: guest, agent, its network and tree      then: containers, by the agent
 */
import { createServer, type Socket } from "node:net";
import type { AgentBroker } from "../agent/broker.ts";
import { AgentClient } from "../agent/client.ts";
import { HostDirectory } from "../backends/host-directory/host-directory.ts";
import { HostTree } from "../backends/host-directory/host-tree.ts";
import { ignore } from "../base/errors.ts";
import { containerKernel } from "../container/life/kernel.ts";
import { brokered } from "../container/life/own-machine.ts";
import { type ContainerNetwork, type CreatedSharedMachine, createSharedMachine } from "../container/run.ts";
import { RunningMachine } from "../container/running-machine.ts";
import type { SetupStep } from "../container/setup-steps.ts";
import { connectTo } from "../host/request-socket.ts";
import { askProcess } from "./control.ts";
import { SHARES, type Share } from "./mounts.ts";
import { OciError } from "./runtime-error.ts";
import { type SharedMemory, sharedMemorySteps } from "./shared-memory.ts";
import type { OciContainer } from "./state.ts";

/** A machine as one of its containers sees it. */
export interface SandboxAccess {
	readonly client: AgentClient;
	/** Resolves when the machine has ended, or cannot be reached any more. */
	readonly ended: Promise<unknown>;
	/** Brings directories of the host into the machine. @throws HostError ERR_FS_OPEN; nothing is left then */
	share(shares: readonly Share[]): Promise<void>;
	unshare(names: readonly string[]): Promise<void>;
}

/** Tag of the machine's virtio-fs device. */
const TAG = "shares";

export class Sandbox implements SandboxAccess {
	readonly #machine: CreatedSharedMachine;
	readonly #tree: HostTree;
	readonly #memory: SharedMemory | undefined;
	#running: RunningMachine | undefined;
	#broker: AgentBroker | undefined;
	/** Of processes that use the agent: those of other containers in the machine, and of `exec`. */
	readonly #clients = new Set<Socket>();
	#onUnshared: () => void = () => undefined;

	/** Makes the machine. The caller ends it by `stop`. @throws what Machine.create throws */
	static async open(options: {
		cpus: number;
		memoryMiB: number;
		networks: readonly ContainerNetwork[];
		/** What its containers may share. */
		memory: SharedMemory | undefined;
	}): Promise<Sandbox> {
		const { memory, ...shape } = options;
		const kernel = await containerKernel(undefined);
		const tree = new HostTree();
		const machine = await createSharedMachine({
			...shape,
			kernel,
			fs: [{ tag: TAG, fileSystem: tree, cache: "auto" }],
		});
		return new Sandbox(machine, tree, memory);
	}

	private constructor(machine: CreatedSharedMachine, tree: HostTree, memory: SharedMemory | undefined) {
		this.#machine = machine;
		this.#memory = memory;
		this.#tree = tree;
	}

	get client(): AgentClient {
		return this.#running!.client;
	}

	get ended(): Promise<unknown> {
		return this.#machine.guest.ended;
	}

	/** Whether processes of others use the machine. */
	get isShared(): boolean {
		return this.#clients.size > 0;
	}

	/** Resolves when no process of others uses the machine any more, or when it has ended. */
	async unshared(): Promise<void> {
		const last = new Promise<void>((resolve) => {
			this.#onUnshared = resolve;
		});
		if (this.isShared) await Promise.race([last, this.ended]);
	}

	/** @throws GuestError, TsvmmError ERR_AGENT_TIMEOUT; the machine has ended then */
	async boot(): Promise<void> {
		const guest = brokered(this.#machine.guest, (broker) => {
			this.#broker = broker;
		});
		const steps: SetupStep[] = [
			...this.#machine.machineSteps,
			["mount", `virtiofs\t${TAG}\t${SHARES}\t`],
			...(this.#memory === undefined ? [] : sharedMemorySteps(this.#memory)),
		];
		try {
			this.#running = await RunningMachine.boot(guest, { steps });
		} catch (error) {
			this.#machine.rejectTemplate?.(error);
			throw error;
		}
	}

	async share(shares: readonly Share[]): Promise<void> {
		const { enter } = this.#machine.machine;
		const opened: [string, HostDirectory][] = [];
		try {
			for (const { name, path, readOnly } of shares)
				opened.push([name, await HostDirectory.open(path, { readOnly, enter })]);
		} catch (error) {
			await Promise.all(opened.map(([, directory]) => directory.close()));
			throw error;
		}
		for (const [name, directory] of opened) this.#tree.add(name, directory);
	}

	async unshare(names: readonly string[]): Promise<void> {
		for (const name of names) this.#tree.remove(name);
	}

	/** Lets others use the agent at `path`. @returns what ends that */
	async serveAgent(path: string): Promise<() => void> {
		const server = createServer((socket) => {
			socket.on("error", ignore);
			if (this.#broker === undefined) {
				socket.destroy();
				return;
			}
			this.#clients.add(socket);
			socket.once("close", () => {
				this.#clients.delete(socket);
				if (!this.isShared) this.#onUnshared();
			});
			this.#broker.attach(socket);
		});
		await new Promise<void>((resolve, reject) => {
			server.once("error", reject);
			server.listen(path, resolve);
		});
		return () => server.close();
	}

	/** Ends the machine at once. What its containers have written to directories of the host is there. */
	async stop(): Promise<void> {
		this.#broker?.close();
		await this.#machine.guest.stop();
	}
}

/** The machine of another container, by the sockets of its process. */
export class RemoteSandbox implements SandboxAccess {
	readonly client: AgentClient;
	readonly #owner: OciContainer;

	/** @throws OciError ERR_OCI_SANDBOX when it does not run */
	static async connect(owner: OciContainer): Promise<RemoteSandbox> {
		const socket = await connectTo(owner.agent);
		if (socket === undefined) {
			throw new OciError("ERR_OCI_SANDBOX", `the machine of container ${owner.id} is not running`);
		}
		const client = new AgentClient(socket);
		await client.hello();
		return new RemoteSandbox(owner, client);
	}

	private constructor(owner: OciContainer, client: AgentClient) {
		this.#owner = owner;
		this.client = client;
	}

	get ended(): Promise<unknown> {
		return this.client.closed;
	}

	async share(shares: readonly Share[]): Promise<void> {
		await askProcess(this.#owner.control, { do: "share", shares: [...shares] });
	}

	async unshare(names: readonly string[]): Promise<void> {
		await askProcess(this.#owner.control, { do: "unshare", names: [...names] }).catch(ignore);
	}

	close(): void {
		this.client.close();
	}
}

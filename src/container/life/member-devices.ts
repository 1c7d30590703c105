/*
 * What a container that joins a running machine brings along: a disk with its image, which all members of that image
 * share, a disk for what it writes, and a virtio-fs device for each directory of the host. They go when it has ended:
 *
 *     addDevice -> agent: bind -> SETUP, EXEC ... EXIT, REMOVE -> agent: unbind -> removeDevice
 *
 * Linux does not let go of a virtio-mmio device by itself, so the agent unbinds it, once no file system uses it. The slot
 * is then free for another member's.
 */
import { FileDisk } from "../../backends/file-disk.ts";
import { HostDirectory } from "../../backends/host-directory/host-directory.ts";
import type { Machine } from "../../machine/machine.ts";
import { BlockDevice } from "../../virtio/block.ts";
import type { VirtioDevice } from "../../virtio/device.ts";
import { FsDevice } from "../../virtio/fs/device.ts";
import { deviceDisks, diskSteps } from "../devices.ts";
import { openRootfs } from "../image/rootfs.ts";
import { ImageStore } from "../image/store.ts";
import type { RunningMachine } from "../running-machine.ts";
import { type GuestNetwork, type SetupStep, type SystemOptions, setupSteps } from "../setup-steps.ts";
import { fsConfigs, shareSteps } from "../shares.ts";
import { mountShares } from "../volume/mount.ts";
import { agentName, type ContainerConfig } from "./config.ts";
import type { StoredContainer } from "./store.ts";
import { prepareWritableLayer } from "./writable-layer.ts";

/** Serial numbers of a container's disks. */
export interface ContainerDisks {
	/** With its image. */
	root: string;
	/** With what it writes. */
	writable: string;
}

/** What of a machine its members need. */
export type MemberMachine = Pick<Machine, "addDevice" | "removeDevice" | "deviceAddress" | "enter">;

/** A container whose devices are there. */
export interface Member {
	/** What the agent does before its process can run. */
	steps: readonly SetupStep[];
	/** Takes its devices away again, once nothing of it runs. */
	release(): Promise<void>;
}

/** Prepares a machine for a container. Tests have some of their own. */
export type PrepareMember = (container: StoredContainer, signal: AbortSignal) => Promise<Member>;

/** Serial numbers of the disks of a container that joins others. */
export function memberDisks(config: Pick<ContainerConfig, "id" | "joins" | "image">): ContainerDisks {
	const image = config.image.digest.replace(/^.*:/, "").slice(0, 16);
	return { root: `i-${image}`, writable: `w-${agentName(config)}` };
}

export class MemberDevices {
	readonly #machine: MemberMachine;
	readonly #running: RunningMachine;
	readonly #networks: () => readonly GuestNetwork[];
	/** How many members use an image's disk. */
	readonly #users = new Map<string, number>();
	/** One member's devices come or go at a time. */
	#turn: Promise<unknown> = Promise.resolve();

	/** @param networks those of the machine, as they are when a member comes */
	constructor(machine: MemberMachine, running: RunningMachine, networks: () => readonly GuestNetwork[]) {
		this.#machine = machine;
		this.#running = running;
		this.#networks = networks;
	}

	/**
	 * Brings a container's devices into the machine.
	 *
	 * @throws UsageError ERR_TOO_MANY_DEVICES when no slot is left, ImageError ERR_IMAGE_NOT_FOUND, what opening files says.
	 * Nothing is left then
	 */
	async prepare(container: StoredContainer, signal: AbortSignal): Promise<Member> {
		return await this.#alone(async () => {
			const added: string[] = [];
			try {
				const steps = await this.#add(container, added, signal);
				return { steps, release: () => this.#alone(() => this.#remove(added)) };
			} catch (error) {
				await this.#remove(added);
				throw error;
			}
		});
	}

	async #add({ config, paths }: StoredContainer, added: string[], signal: AbortSignal): Promise<SetupStep[]> {
		const name = agentName(config);
		const { enter } = this.#machine;
		const store = new ImageStore();
		await using rootfs = await openRootfs(store, store.find(config.image.digest), { signal });
		const { root: rootDisk, writable: writableDisk } = memberDisks(config);
		if (!this.#users.has(rootDisk)) {
			const disk = FileDisk.open(rootfs.path, { readOnly: true, fd: rootfs.fd, enter });
			await this.#plug(rootDisk, new BlockDevice(disk, { name: rootDisk, id: rootDisk }), added);
		} else added.push(rootDisk);
		this.#users.set(rootDisk, (this.#users.get(rootDisk) ?? 0) + 1);
		await prepareWritableLayer(paths.writable, config.writableBytes);
		const disk = FileDisk.open(paths.writable, { readOnly: false, enter });
		await this.#plug(writableDisk, new BlockDevice(disk, { name: writableDisk, id: writableDisk }), added);
		const shares = mountShares(config.mounts);
		for (const { tag, path, readOnly = false } of fsConfigs(shares, name)) {
			const directory = await HostDirectory.open(path, { readOnly, enter });
			await this.#plug(tag, new FsDevice(tag, directory, { name: tag, cache: "auto" }), added);
		}
		const { devices = [] } = config;
		for (const { path, readOnly = false, id } of deviceDisks(devices, name)) {
			const device = FileDisk.open(path, { readOnly, enter });
			await this.#plug(id, new BlockDevice(device, { name: id, id }), added);
		}
		return setupSteps({
			...(config.system as SystemOptions),
			privileged: config.privileges.privileged,
			workdir: config.process.cwd,
			mounts: [...shareSteps(shares, name), ...diskSteps(devices, name)],
			rootDisk,
			writableDisk,
			fstype: rootfs.fstype,
			hostname: config.hostname,
			cgroup: name,
			joins: true,
			networks: this.#networks(),
		});
	}

	async #plug(id: string, device: VirtioDevice, added: string[]): Promise<void> {
		try {
			this.#machine.addDevice(id, device);
		} catch (error) {
			await device.close();
			throw error;
		}
		added.push(id);
		await this.#running.orEarly(this.#running.client.setup([["bind", this.#address(id)]]));
	}

	async #remove(added: readonly string[]): Promise<void> {
		for (const id of [...added].reverse()) {
			const users = this.#users.get(id) ?? 0;
			if (users > 1) {
				this.#users.set(id, users - 1);
				continue;
			}
			this.#users.delete(id);
			try {
				await this.#running.orEarly(this.#running.client.setup([["unbind", this.#address(id)]]));
				/* By force: its driver has left it already. */
				await this.#machine.removeDevice(id, { force: true });
			} catch {
				/* The machine has ended, and its devices with it; or the guest does not let go, and the slot stays taken. */
			}
		}
	}

	#address(id: string): string {
		return this.#machine.deviceAddress(id).toString(16);
	}

	async #alone<T>(work: () => Promise<T>): Promise<T> {
		const turn = this.#turn.then(work);
		this.#turn = turn.catch(() => undefined);
		return await turn;
	}
}

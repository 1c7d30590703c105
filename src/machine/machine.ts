/*
 * Machine, the main class of tsvmm. `create` acquires the host's resources and wires them. If a step fails, nothing is
 * left. `start` lets the vCPUs run. `ended` says how the machine ended, when all is released.
 *
 *     create -> created -- start --> running <-- pause, resume --> paused      any of them -- stop, the guest --> ended
 *     restore ----^                     |-- snapshot --> a directory
 *
 * The machine owns the backends, consoles and devices that the caller gave, and closes them at its end.
 */
import { UnixVsock } from "../backends/unix-vsock.ts";
import type { Enter } from "../base/enter.ts";
import { StateError, UsageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { Logger } from "../base/log.ts";
import type { MachineLife, Observer } from "../base/observer.ts";
import { Teardown } from "../base/teardown.ts";
import type { Mark } from "../base/timeline.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";
import type { SnapshotOptions } from "../snapshot/write.ts";
import { BalloonDevice } from "../virtio/balloon.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { build, type Wired } from "./builder.ts";
import {
	type CompleteConfig,
	completeConfig,
	completeRestore,
	type MachineConfig,
	type RestoreConfig,
} from "./config.ts";
import type { DebugAccess } from "./debug-port.ts";
import type { RemoveOptions } from "./device-slots.ts";
import { quiesceDevices, resumeDevices } from "./device-states.ts";
import { Entry } from "./entry.ts";
import { MachineEmitter, type MachineEventName, type MachineEvents, type MachineListener } from "./events.ts";
import { createdLife, lifeAt, tearDown } from "./life.ts";
import { contentOf } from "./machine-state.ts";
import { acquire, openSnapshot, takeOver } from "./resources.ts";
import { describeShutdown, type ShutdownReason, shutdownError } from "./shutdown-reason.ts";
import { tellForAMoment } from "./stopped.ts";
import { type MachineView, viewMachine } from "./view.ts";
import type { WorkingSetRecorder } from "./working-set.ts";

/** The state of a machine. */
export type MachineState = "created" | "running" | "paused" | "ended";

/**
 * A virtual machine.
 *
 * @example
 * await using machine = await Machine.create({ kernel: "vmlinux", console: { kind: "stdio" } });
 * machine.start();
 * console.log(describeShutdown(await machine.ended));
 */
export class Machine {
	/** Resolves when the guest has ended and everything is released. Never rejects. */
	readonly ended: Promise<ShutdownReason>;
	/** The host's side of vsock, when the machine has one. */
	readonly vsock: UnixVsock | undefined;
	/** The guest's RAM. It is gone after the end: an access then throws. */
	readonly memory: GuestMemory;
	/** The command line that the kernel was given. */
	readonly cmdline: string;
	/**
	 * The way into this machine, for callbacks of your own backends and devices. An error of `run` is logged and ends the
	 * machine. After the end nothing runs.
	 */
	readonly enter: Enter;
	readonly #wired: Wired;
	readonly #entry: Entry;
	readonly #emitter = new MachineEmitter();
	#started = false;
	/** Between `pause` and `resume`. */
	#held = false;
	/** A snapshot is being taken. */
	#saving = false;
	/** "paused" was emitted, "resumed" not yet. */
	#told = false;

	/**
	 * Builds a machine. Nothing runs yet. It holds resources of the host until it has ended: call `stop`, or use `await
	 * using`.
	 *
	 * @throws UsageError for an invalid configuration, HostError when the host lacks something, ImageError for the
	 *   kernel, TsvmmError ERR_DEVICE_FAILED for a device or backend that fails at once, the reason of `config.signal`
	 *   when that is aborted. Then nothing is left, and the objects in `config` are closed.
	 */
	static create(config: MachineConfig): Promise<Machine> {
		return Machine.#make(config, () => completeConfig(config));
	}

	/**
	 * Makes a machine that goes on where another one was when `snapshot` was called. `start` lets it run. Its RAM is read from
	 * the snapshot when the guest touches it, so the snapshot's files must stay as they are until the machine has ended. Any
	 * number of machines can be restored from one snapshot. The first leaves a list there of what the next read ahead.
	 *
	 * @param path the snapshot's directory
	 * @param config the host's side: the same devices as the machine had, by id
	 * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION, ERR_SNAPSHOT_DAMAGED,
	 *   ERR_SNAPSHOT_BASE, ERR_SNAPSHOT_HOST for a host that lacks what the guest uses, ERR_STATE_MISMATCH for other devices; and what `create`
	 *   throws. Then nothing is left, and the objects in `config` are closed.
	 */
	static restore(path: string, config: RestoreConfig = {}): Promise<Machine> {
		return Machine.#make(config, async (teardown, entry) => {
			const snapshot = await openSnapshot(path);
			teardown.owns(snapshot);
			entry.timeline.mark("snapshot");
			return completeRestore(config, snapshot);
		});
	}

	static async #make(
		config: RestoreConfig,
		plan: (teardown: Teardown, entry: Entry) => CompleteConfig | Promise<CompleteConfig>,
	): Promise<Machine> {
		const teardown = new Teardown();
		const entry = new Entry(new Logger(config.log));
		takeOver(config, teardown);
		try {
			const complete = await plan(teardown, entry);
			const resources = await acquire(complete, entry, teardown);
			const wired = await build(complete, resources, entry, teardown);
			config.signal?.throwIfAborted();
			const failure = entry.ended && shutdownError(entry.ended);
			if (failure !== undefined) throw failure;
			const vsock = resources.backends.find((backend) => backend instanceof UnixVsock);
			return new Machine(wired, vsock, config.signal);
		} catch (error) {
			entry.end({ reason: "stopped" });
			await teardown.run().catch(() => undefined);
			throw error;
		}
	}

	private constructor(wired: Wired, vsock: UnixVsock | undefined, signal: AbortSignal | undefined) {
		const { entry, teardown } = wired;
		this.memory = wired.memory;
		this.cmdline = wired.cmdline;
		this.vsock = vsock;
		this.enter = entry.enter;
		this.#wired = wired;
		this.#entry = entry;
		this.#tell(createdLife(wired));
		const stop = () => void this.stop();
		signal?.addEventListener("abort", stop);
		entry.onPanic = (why) => this.#emit("panic", why);
		this.ended = new Promise((resolve) => {
			entry.onEnd((how) => {
				wired.threads.release();
				signal?.removeEventListener("abort", stop);
				/* Outside the handler that noticed it. */
				setImmediate(async () => {
					const end = await tearDown(teardown, how);
					this.#emit("ended", end);
					resolve(end);
				});
			});
		});
	}

	/** What its making has reached when. @internal */
	get timeline(): readonly Mark[] {
		return this.#entry.timeline.marks;
	}

	/** The state of the machine. */
	get state(): MachineState {
		if (this.#entry.ended !== undefined) return "ended";
		if (!this.#started) return "created";
		return this.#wired.threads.paused ? "paused" : "running";
	}

	/**
	 * Lets all vCPUs run; after `pause`, `resume` will. A start that fails ends the machine.
	 *
	 * @throws StateError ERR_MACHINE_STATE when it was started before or has ended
	 * @throws HostError ERR_VCPU_THREAD when the host refuses a thread
	 */
	start(): void {
		this.#mustLive("start");
		if (this.#started) throw new StateError("ERR_MACHINE_STATE", "Cannot start the machine: it was started before");
		this.#started = true;
		this.#orEnd(() => {
			if (this.#wired.image !== undefined) resumeDevices(this.#wired);
			this.#wired.threads.start();
		});
		this.#wired.workingSet?.started(() => this.state === "running");
		this.#emit("started");
	}

	/**
	 * Stops all vCPUs between two instructions of the guest. Resolves when the last has stopped, or at `resume` or the
	 * machine's end if those come first. Devices still finish requests in flight. Before `start` it keeps the vCPUs from
	 * running.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 */
	async pause(): Promise<void> {
		this.#mustLive("pause");
		this.#held = true;
		await this.#wired.threads.pause();
		if (this.#told || !this.#wired.threads.paused || this.#entry.ended !== undefined) return;
		this.#told = true;
		this.#emit("paused");
	}

	/**
	 * Lets paused vCPUs run on, and tells the guest's watchdogs that time has passed. Without `pause` it does nothing.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 * @throws HostError ERR_VCPU_THREAD when the host refuses a thread that `start` had left to it
	 */
	resume(): void {
		this.#resume();
	}

	#resume(only?: ReadonlySet<number>): void {
		this.#mustLive("resume");
		if (this.#saving) throw new StateError("ERR_MACHINE_STATE", "Cannot resume the machine: a snapshot is being taken");
		this.#held = false;
		this.#orEnd(() => this.#wired.threads.resume(only));
		if (this.#told) this.#emit("resumed");
		this.#told = false;
	}

	/**
	 * Writes all of the machine to a directory, for `Machine.restore`. The guest stands still meanwhile. Afterwards it runs on,
	 * unless it was paused before. Requests of its drivers that are in flight are answered first.
	 *
	 * @param path a directory that is not there yet, or is empty
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended, ends meanwhile, or a snapshot is being taken,
	 *   ERR_STATE_UNSUPPORTED for a device that cannot be saved; SnapshotError ERR_SNAPSHOT_EXISTS, ERR_SNAPSHOT_WRITE, and what
	 *   `restore` throws for a base; the reason of `options.signal`. Then nothing is left at `path`, and the machine goes on.
	 */
	async snapshot(path: string, options: SnapshotOptions = {}): Promise<void> {
		this.#mustLive("snapshot");
		if (this.#saving)
			throw new StateError("ERR_MACHINE_STATE", "Cannot snapshot the machine: a snapshot is being taken");
		this.#saving = true;
		let base: SnapshotImage | undefined;
		try {
			/* Before the guest stands still: a copy is read as a whole. */
			if (options.base !== undefined) base = await openSnapshot(options.base);
			this.#mustLive("snapshot");
			await this.#save(path, base, options);
		} finally {
			this.#saving = false;
			await base?.close();
		}
	}

	async #save(path: string, base: SnapshotImage | undefined, options: SnapshotOptions): Promise<void> {
		const wired = this.#wired;
		const isHalted = !this.#started && wired.image !== undefined;
		let putBack: (() => void) | undefined;
		try {
			wired.workingSet?.giveUp();
			await wired.threads.pause();
			if (!isHalted) await quiesceDevices(wired);
			const mustLive = () => this.#mustLive("snapshot");
			mustLive();
			putBack = wired.debug.attached?.lift();
			const { writeSnapshot } = await import("../snapshot/write.ts");
			await writeSnapshot(path, contentOf(wired, mustLive), base, options);
		} finally {
			if (this.#entry.ended === undefined) {
				putBack?.();
				if (!isHalted) resumeDevices(wired);
				if (!this.#held) this.#orEnd(() => wired.threads.resume());
			}
		}
	}

	/** Ends the machine, at any time. Resolves as `ended` does. */
	stop(): Promise<ShutdownReason> {
		this.#entry.end({ reason: "stopped" });
		return this.ended;
	}

	/** As `stop`, for `await using`. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop();
	}

	/** Records what the guest has used, if that is to be. @internal */
	get workingSet(): WorkingSetRecorder | undefined {
		return this.#wired.workingSet;
	}

	/** What a debugger (src/debug) needs. @internal */
	get debug(): DebugAccess {
		this.#wired.workingSet?.giveUp();
		const { debug: port, vcpus, kvm } = this.#wired;
		return { port, vcpus, kvm, resume: (only) => this.#resume(only) };
	}

	/** The memory balloon, when the machine has one. */
	get balloon(): BalloonDevice | undefined {
		const device = this.#wired.slots.devices.get("balloon");
		return device instanceof BalloonDevice ? device : undefined;
	}

	/** The ids of all virtio devices, in the order in which the guest finds them. */
	get deviceIds(): string[] {
		return [...this.#wired.slots.devices.keys()];
	}

	/**
	 * The virtio device with this id: "disk0" and "net0" by position unless the configuration names them, "vsock", "rng",
	 * "console", or the name of a device of one's own.
	 *
	 * @param kind its class, such as BlockDevice; any device when missing
	 * @throws UsageError ERR_DEVICE_ID when there is none, or of another class
	 */
	device<T extends VirtioDevice = VirtioDevice>(id: string, kind?: abstract new (...args: never[]) => T): T {
		const device = this.#wired.slots.devices.get(id);
		if (device === undefined) {
			const known = this.deviceIds.join(", ") || "none";
			throw new UsageError("ERR_DEVICE_ID", `Cannot find device ${JSON.stringify(id)}: the machine has ${known}`);
		}
		if (kind !== undefined && !(device instanceof kind)) {
			throw new UsageError("ERR_DEVICE_ID", `Cannot use device "${id}" as ${kind.name}: it is ${device.name}`);
		}
		return device as T;
	}

	/**
	 * Adds a virtio device to the machine, which then owns it. A guest with ACPI and the device's driver finds it at
	 * once, also when it is added before the start. A guest without ACPI never finds it.
	 *
	 * @param id its name on this machine, 1 to 64 letters, digits and . _ : -
	 * @throws UsageError ERR_CONFIG_ID for an id that is taken or no plain name, ERR_TOO_MANY_DEVICES when no slot is left;
	 * StateError ERR_MACHINE_STATE when the machine has ended. Then the device stays the caller's
	 */
	addDevice(id: string, device: VirtioDevice): void {
		this.#mustLive("add a device to");
		this.#wired.slots.add(id, device);
	}

	/**
	 * The address of a device's slot on the virtio bus, by which the guest's kernel knows it (/proc/iomem).
	 *
	 * @throws UsageError ERR_DEVICE_ID when there is none
	 */
	deviceAddress(id: string): number {
		return this.#wired.slots.address(id);
	}

	/**
	 * Tells the guest that a device is removed, waits until its driver has released it or the machine has ended, and
	 * closes it. Linux is told but does not unbind a virtio-mmio driver: a program in the guest has to
	 * (docs/limitations.md).
	 *
	 * @throws UsageError ERR_DEVICE_ID when there is none, StateError ERR_DEVICE_LEAVING when that was asked before,
	 * ERR_MACHINE_STATE when the machine has ended, the reason of `signal`
	 */
	async removeDevice(id: string, options: RemoveOptions = {}): Promise<void> {
		this.#mustLive("remove a device from");
		await this.#wired.slots.remove(id, options);
	}

	/**
	 * Replaces a device by another one of the same kind, which offers what the guest's driver uses: a disk of two vCPUs has two
	 * queues, unless it was given another number. Requests in flight are answered first. Then the new device gets
	 * the state of the old one, which is closed. The guest runs on, and is told what cannot move: vsock's streams are
	 * reset, and a network's link goes down for 100 ms. The machine owns the new device.
	 *
	 * @throws UsageError ERR_DEVICE_ID when there is none, StateError ERR_STATE_UNSUPPORTED for a device that cannot be
	 * saved, ERR_DEVICE_LEAVING for one that is being removed, ERR_MACHINE_STATE when the machine has ended; SnapshotError when the new device does not take the old one's
	 * state. Then the old one goes on and the new one stays the caller's
	 */
	async replaceDevice(id: string, device: VirtioDevice): Promise<void> {
		this.#mustLive("replace a device of");
		await this.#wired.slots.replace(id, device);
	}

	/**
	 * What the machine looks like now: devices, their registers and queues. It changes nothing.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 * @internal
	 */
	inspect(): MachineView {
		this.#mustLive("inspect");
		return viewMachine(this.#wired);
	}

	/** Tells observers how the machine stands, for which the vCPUs stop for a moment. @internal */
	async tellState(): Promise<void> {
		this.#mustLive("look at");
		await tellForAMoment(this.#wired, () => this.#held || this.#saving);
	}

	/**
	 * Adds an observer of this machine. It does not see accesses that native code answers. An observer in the
	 * configuration sees them, too.
	 *
	 * @returns removes the observer
	 */
	observe(observer: Observer): () => void {
		return this.#wired.observers.attach(observer);
	}

	/**
	 * Calls `listener` when `event` happens. An error that it throws is logged and ends the machine. Returns the machine.
	 */
	on<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.on(event, listener);
		return this;
	}

	/** As `on`, the next time only. */
	once<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.once(event, listener);
		return this;
	}

	/** Removes a listener. */
	off<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.off(event, listener);
		return this;
	}

	#emit<E extends MachineEventName>(event: E, ...args: MachineEvents[E]): void {
		this.#tell(lifeAt(event, args[0]));
		this.#emitter.emit(event, (run) => this.#entry.guard(`listener of "${event}"`, run), ...args);
	}

	/** Tells the observers of a step in the machine's life. */
	#tell(life: MachineLife): void {
		this.#entry.guard("observer", () => this.#wired.observers.observer?.machine?.(life));
	}

	#mustLive(what: string): void {
		const end = this.#entry.ended;
		if (end === undefined) return;
		throw new StateError("ERR_MACHINE_STATE", `Cannot ${what} the machine: it has ended (${describeShutdown(end)})`);
	}

	/** A machine of which only some vCPUs run must end. */
	#orEnd(step: () => void): void {
		try {
			step();
		} catch (error) {
			this.#entry.end({ reason: "start-failed", detail: (error as Error).message });
			throw error;
		}
	}
}

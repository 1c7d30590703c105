/*
 * Machine: what a user of tsvmm holds. `create` acquires what it needs of the host and wires it, and leaves no trace
 * when a step fails; `start` lets the vCPUs run; `ended` says how it ended, once all of it is torn down again.
 *
 *     create -> created -- start --> running <-- pause, resume --> paused      any of them -- stop, the guest --> ended
 *
 * Everything that a caller gave to it (backends, consoles, devices) is the machine's: it closes them at its end.
 */
import { UnixVsock } from "../backends/unix-vsock.ts";
import type { Enter } from "../base/enter.ts";
import { StateError, UsageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { Logger } from "../base/log.ts";
import type { Observer } from "../base/observer.ts";
import { Teardown } from "../base/teardown.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { build, type Wired } from "./builder.ts";
import { completeConfig, type MachineConfig } from "./config.ts";
import type { RemoveOptions } from "./device-slots.ts";
import { Entry } from "./entry.ts";
import { MachineEmitter, type MachineEventName, type MachineEvents, type MachineListener } from "./events.ts";
import { acquire, takeOver } from "./resources.ts";
import { describeShutdown, type ShutdownReason, shutdownError } from "./shutdown-reason.ts";

/** Where a machine is in its life. */
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
	 * The way into this machine, for callbacks of backends and devices of one's own: what `run` throws is logged and ends
	 * the machine; nothing runs after the end.
	 */
	readonly enter: Enter;
	readonly #wired: Wired;
	readonly #entry: Entry;
	readonly #emitter = new MachineEmitter();
	#started = false;
	/** "paused" was emitted, "resumed" not yet. */
	#told = false;

	/**
	 * Builds a machine; nothing runs yet. It holds host resources until it has ended: `stop` it, or use `await using`.
	 *
	 * @throws UsageError for a configuration that cannot be, HostError for what the host lacks, ImageError for the kernel,
	 * TsvmmError ERR_DEVICE_FAILED for a device or backend that fails at once, the reason of `config.signal` when that is
	 * aborted. Then nothing is left, and what `config` gave is closed.
	 */
	static async create(config: MachineConfig): Promise<Machine> {
		const teardown = new Teardown();
		const entry = new Entry(new Logger(config.log));
		takeOver(config, teardown);
		try {
			const complete = completeConfig(config);
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

	/** Where the machine is in its life. */
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
		this.#orEnd(() => this.#wired.threads.start());
		this.#emit("started");
	}

	/**
	 * Stops all vCPUs between two instructions of the guest; resolves when the last has stopped, or at `resume` or the
	 * machine's end if those come first. Devices still finish what is in flight. Before `start` it holds the vCPUs back.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 */
	async pause(): Promise<void> {
		this.#mustLive("pause");
		await this.#wired.threads.pause();
		if (this.#told || !this.#wired.threads.paused || this.#entry.ended !== undefined) return;
		this.#told = true;
		this.#emit("paused");
	}

	/**
	 * Lets paused vCPUs run on; the guest's watchdogs are told that time has passed. Without `pause` it does nothing.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 * @throws HostError ERR_VCPU_THREAD when the host refuses a thread that `start` had left to it
	 */
	resume(): void {
		this.#mustLive("resume");
		this.#orEnd(() => this.#wired.threads.resume());
		if (this.#told) this.#emit("resumed");
		this.#told = false;
	}

	/** Ends the machine as the host's own wish, at any time; resolves as `ended` does. */
	stop(): Promise<ShutdownReason> {
		this.#entry.end({ reason: "stopped" });
		return this.ended;
	}

	/** As `stop`, for `await using`. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop();
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
	 * Adds a virtio device to the machine, which owns it from then on. A guest with ACPI and its driver finds it within
	 * moments, before the start as well; one without never does.
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
	 * Tells the guest that a device goes, waits until its driver has let go of it, and closes it; or until the machine's
	 * end. Linux hears of it but does not unbind a virtio-mmio driver by itself: something in the guest has to
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
	 * Puts another device of the same kind in the place of one: requests in flight are answered first, then the new device
	 * takes over the state of the old one, which is closed. The guest goes on; what cannot move it is told: vsock's streams
	 * are reset, a network's link goes down for 100 ms. The machine owns the new device.
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
	 * Lets `observer` see what this machine does from now on. What native code answers by itself stays invisible; an
	 * observer in the configuration sees that too.
	 *
	 * @returns takes the observer away again
	 */
	observe(observer: Observer): () => void {
		return this.#wired.observers.attach(observer);
	}

	/** Calls `listener` whenever `event` happens. What it throws is logged and ends the machine. Returns the machine. */
	on<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.on(event, listener);
		return this;
	}

	/** As `on`, the next time only. */
	once<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.once(event, listener);
		return this;
	}

	/** Takes a listener back. */
	off<E extends MachineEventName>(event: E, listener: MachineListener<E>): this {
		this.#emitter.off(event, listener);
		return this;
	}

	#emit<E extends MachineEventName>(event: E, ...args: MachineEvents[E]): void {
		this.#emitter.emit(event, (run) => this.#entry.guard(`listener of "${event}"`, run), ...args);
	}

	#mustLive(what: string): void {
		const end = this.#entry.ended;
		if (end === undefined) return;
		throw new StateError("ERR_MACHINE_STATE", `Cannot ${what} the machine: it has ended (${describeShutdown(end)})`);
	}

	/** vCPUs of which only some run are no machine. */
	#orEnd(step: () => void): void {
		try {
			step();
		} catch (error) {
			this.#entry.end({ reason: "start-failed", detail: (error as Error).message });
			throw error;
		}
	}
}

/** Releases everything; what fails is told with how the machine ended. */
async function tearDown(teardown: Teardown, how: ShutdownReason): Promise<ShutdownReason> {
	try {
		await teardown.run();
		return how;
	} catch (error) {
		const detail = `${how.detail ?? ""} (while ending: ${(error as Error).message})`.trim();
		return { reason: how.reason, detail };
	}
}

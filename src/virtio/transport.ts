/*
 * A transport without its registers: device status, feature negotiation, queues and interrupts of one VirtioDevice
 * (virtio 1.2 §2.1, §2.2, §2.3, §3.1). It also quiesces, saves and restores the device. mmio.ts adds the registers of a
 * bus.
 *
 * InterruptStatus lives in a word shared with the native helper, which may answer its reads and acknowledgements
 * without waking TypeScript; both work here as well.
 */
import { type Enter, enterDirectly } from "../base/enter.ts";
import { StateError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { logRateLimited } from "../base/log.ts";
import { Observers } from "../base/observer.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import { Poller, type PollingThread } from "./poller.ts";
import { type QueuePosition, Virtqueue } from "./queue.ts";
import {
	DEVICE_NEEDS_RESET,
	DRIVER,
	DRIVER_OK,
	FAILED,
	FEATURES_OK,
	INTERRUPT_CONFIG_CHANGE,
	INTERRUPT_USED_BUFFER,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_VERSION_1,
} from "./spec.ts";
import { type InterruptLine, RESET_MS, type TransportOptions } from "./transport-options.ts";
import {
	faultOf,
	freshState,
	isActive,
	layoutOf,
	type QueueSetup,
	readTransport,
	saveTransport,
	TRANSITIONS,
	type TransportState,
	whyIdle,
} from "./transport-state.ts";
import { type TransportView, viewTransport } from "./view.ts";

const TRANSPORT_FEATURES = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;

/** Status, features and queues of one virtio device, for any form of registers. */
export class Transport implements Stateful {
	/** The device's. */
	readonly name: string;
	/** The device behind the registers. */
	readonly device: VirtioDevice;
	/** How many queues the device has. */
	readonly queueCount: number;
	readonly #memory: GuestMemory;
	readonly #line: InterruptLine;
	protected readonly interruptStatus: Int32Array;
	readonly #enter: Enter;
	readonly #observers: Observers;
	/** What is offered. */
	protected readonly features: bigint;
	protected state: TransportState;
	#queues: readonly (Virtqueue | undefined)[] = [];
	readonly #thread: PollingThread | undefined;
	/** Of the queues, if the device is polled. */
	#pollers: readonly (Poller | undefined)[] = [];
	#active = false;
	/** Between `quiesce` or `restore` and `resume`. */
	#quiesced = false;
	#onResume: (() => void) | undefined;
	#onReset: (() => void) | undefined;
	/** While a reset is under way: resolves once it is complete. */
	#resetting: Promise<void> | undefined;
	/** The device handles a notification. Its interrupts become one, at the end. */
	#notifying = false;
	#raiseDue = false;
	/** The config space has changed. `resume` tells the driver. */
	#configStale = false;

	/** Its registers are those of a device that no driver has touched. */
	constructor(device: VirtioDevice, options: TransportOptions) {
		const { memory, line, interruptStatus, enter = enterDirectly, observers = new Observers() } = options;
		this.name = device.name;
		this.device = device;
		this.queueCount = device.queueSizes.length;
		this.#memory = memory;
		this.#line = line;
		this.interruptStatus = interruptStatus;
		this.#enter = enter;
		this.#observers = observers;
		this.#thread = device.collect === undefined ? undefined : options.thread;
		this.features = device.features | TRANSPORT_FEATURES;
		this.state = freshState(device.queueSizes.length);
	}

	/** Device status (virtio 1.2 §2.1) as the driver reads it. */
	get status(): number {
		return this.state.status;
	}

	/** Its registers and queues as they are now. It changes nothing. @internal */
	inspect(): TransportView {
		const { device, state, features } = this;
		const interruptStatus = Atomics.load(this.interruptStatus, 0);
		return viewTransport({ device, state, features, interruptStatus, queues: this.#queues, memory: this.#memory });
	}

	/** The driver's QueueNotify for queue `index`: from an ioeventfd, or a plain write. Ignored unless active. */
	notify(index: number): void {
		this.#look(index, true);
	}

	/** @param kicked by the driver; else the device looks without having been told to */
	#look(index: number, kicked: boolean): void {
		const { observer } = this.#observers;
		const { status } = this.state;
		const queue = (status & (DRIVER_OK | DEVICE_NEEDS_RESET)) === DRIVER_OK ? this.#queues[index] : undefined;
		if (queue === undefined || this.#quiesced) {
			if (!kicked || this.#quiesced) return;
			observer?.violation?.(this.name, `ignored a notification of queue ${index}: ${whyIdle(status)}`, false);
			return;
		}
		if (kicked) observer?.kick?.(this.name, index);
		queue.beginTurn();
		const poller = this.#pollers[index];
		/* An observer is to see each kick. */
		if (poller === undefined || observer !== undefined) this.#serve(index);
		else poller.kicked();
	}

	#serve(index: number): void {
		/* A device may answer on several queues. The driver looks at all of them after one interrupt. */
		this.#notifying = true;
		this.device.notify(index);
		this.#notifying = false;
		if (this.#raiseDue) this.#line.raise();
		this.#raiseDue = false;
	}

	/** Resolves once the driver has reset the device, or had never touched it; also at `release`. */
	async released(): Promise<void> {
		if (this.state.status === 0) return;
		await new Promise<void>((resolve) => {
			const others = this.#onReset;
			this.#onReset = () => {
				others?.();
				resolve();
			};
		});
	}

	/** Ends all waits in `released`. */
	release(): void {
		const onReset = this.#onReset;
		this.#onReset = undefined;
		onReset?.();
	}

	/** Resets the device without its driver. */
	detach(): void {
		void this.#reset();
	}

	/**
	 * Halts the device: from now on it takes no chain. The promise resolves when it has no chain and its backend has
	 * nothing in flight, or at `resume` if that comes first. The vCPUs should have stopped before.
	 */
	async quiesce(): Promise<void> {
		this.#quiesced = true;
		for (const queue of this.#queues) queue?.hold();
		const resumed = new Promise<void>((resolve) => {
			this.#onResume = resolve;
		});
		await Promise.race([Promise.all([this.device.quiesce?.(), this.#resetting]), resumed]);
		for (const queue of this.#queues) queue?.flush();
	}

	/**
	 * Lets a device go on after `quiesce` or `restore`. It looks at all its queues, because kicks may have been missed.
	 */
	resume(): void {
		if (!this.#quiesced) return;
		this.#quiesced = false;
		this.#onResume?.();
		for (const queue of this.#queues) queue?.release();
		if (this.#configStale && (this.state.status & DRIVER_OK) !== 0) {
			this.state.configGeneration = (this.state.configGeneration + 1) >>> 0;
			Atomics.or(this.interruptStatus, 0, INTERRUPT_CONFIG_CHANGE);
		}
		this.#configStale = false;
		/* The saved interrupt controllers may have missed an edge. An extra one does no harm. */
		if (Atomics.load(this.interruptStatus, 0) !== 0) this.#line.raise();
		for (let index = 0; index < this.#queues.length; index++) this.#look(index, false);
	}

	/**
	 * Registers, queues, config space and device. Only after `quiesce`.
	 *
	 * @throws StateError ERR_STATE_BUSY before that, ERR_STATE_UNSUPPORTED for a device that cannot be saved
	 */
	save(): SavedState {
		const { device, name } = this;
		if (device.save === undefined || device.restore === undefined) {
			throw new StateError("ERR_STATE_UNSUPPORTED", `Cannot save ${name}: it has no save and restore`);
		}
		const inFlight = this.#queues.reduce((sum, queue) => sum + (queue?.inFlight ?? 0), 0);
		if (!this.#quiesced || inFlight > 0) {
			const found = this.#quiesced ? `it has ${inFlight} chains in flight` : "it was not quiesced";
			throw new StateError("ERR_STATE_BUSY", `Cannot save ${name}: ${found}`);
		}
		const positions = this.#queues.map((queue) => queue?.position);
		return {
			version: 1,
			deviceId: device.deviceId,
			...saveTransport(this.state, positions),
			interruptStatus: Atomics.load(this.interruptStatus, 0),
			config: device.config.slice(),
			device: device.save(),
		};
	}

	/**
	 * Restores what `save` of a transport with such a device returned, over the same guest memory. Then `resume` lets it
	 * run.
	 *
	 * @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_VERSION, ERR_STATE_MISMATCH; then nothing has changed
	 * @throws StateError ERR_STATE_BUSY when a driver has used this transport, ERR_STATE_UNSUPPORTED as `save` does
	 */
	restore(saved: unknown): void {
		const { device, name } = this;
		if (device.restore === undefined) {
			throw new StateError("ERR_STATE_UNSUPPORTED", `Cannot restore ${name}: it has no save and restore`);
		}
		if (this.state.status !== 0 || this.#quiesced) {
			throw new StateError("ERR_STATE_BUSY", `Cannot restore ${name}: it is in use`);
		}
		const reader = new StateReader(name, saved).version(1);
		const deviceId = reader.u32("deviceId");
		if (deviceId !== device.deviceId) throw reader.mismatch(`it was a device of type ${deviceId}`);
		const shape = { features: this.features, queueSizes: device.queueSizes, memory: this.#memory };
		const { state, positions } = readTransport(reader, shape);
		const interruptStatus = reader.integer("interruptStatus", 0, INTERRUPT_USED_BUFFER | INTERRUPT_CONFIG_CHANGE);
		const config = reader.bytes("config", device.config.length);
		const deviceState = reader.object("device").value;
		const active = isActive(state.status);
		const activation = active ? this.#activation(state, positions, true) : undefined;
		device.restore(deviceState, activation);
		this.state = state;
		Atomics.store(this.interruptStatus, 0, interruptStatus);
		this.#queues = activation?.queues ?? [];
		this.#active = active;
		this.#quiesced = true;
		this.#configStale = Buffer.compare(config, device.config) !== 0;
	}

	/** A reset is not complete (virtio 1.2 §2.4): Status is not 0 yet, and the driver's writes are ignored. */
	protected get resetting(): boolean {
		return this.#resetting !== undefined;
	}

	/**
	 * The driver writes Status; 0 is a reset. A reset that takes time returns a promise, and the vCPU must wait for it:
	 * Linux reuses its buffers without checking that Status is 0. If requests do not end within RESET_MS, the vCPU goes
	 * on, and the driver reads that its device was not reset.
	 */
	protected setStatus(value: number): Promise<void> | undefined {
		if (value !== 0) {
			this.#follow(value);
			this.#observers.observer?.status?.(this.name, this.state.status, this.state.driverFeatures);
			return undefined;
		}
		const complete = this.#reset();
		if (complete === undefined) return undefined;
		return new Promise((resolve) => {
			const giveUp = () => {
				logRateLimited(this.name, "warn", "the reset is not complete: requests of the driver do not end");
				resolve();
			};
			const timer = setTimeout(() => this.#enter(this.name, giveUp), RESET_MS).unref();
			void complete.then(() => {
				clearTimeout(timer);
				resolve();
			});
		});
	}

	#follow(value: number): void {
		const from = this.state.status & ~(DEVICE_NEEDS_RESET | FAILED);
		const to = value & ~(DEVICE_NEEDS_RESET | FAILED);
		/* The driver cannot clear NEEDS_RESET or take FAILED back, except by a reset. */
		this.state.status |= value & FAILED;
		if (to === from) return;
		if ((this.state.status & FAILED) !== 0 || !TRANSITIONS.some(([a, b]) => a === from && b === to)) {
			this.ignored(`status 0x${value.toString(16)} after 0x${this.state.status.toString(16)}`);
			return;
		}
		if ((to & ~from & FEATURES_OK) !== 0) {
			const missing = this.state.driverFeatures & ~this.features;
			if (missing !== 0n || (this.state.driverFeatures & VIRTIO_F_VERSION_1) === 0n) {
				this.ignored(`FEATURES_OK with features 0x${this.state.driverFeatures.toString(16)}`);
				return;
			}
		}
		this.state.status |= to;
		if ((to & ~from & DRIVER_OK) !== 0) this.#activate();
	}

	#activate(): void {
		/* After a refused queue the device stays inactive until reset. */
		if ((this.state.status & DEVICE_NEEDS_RESET) !== 0) {
			this.#interrupt(INTERRUPT_CONFIG_CHANGE);
			return;
		}
		const activation = this.#activation(this.state);
		this.#queues = activation.queues;
		this.#active = true;
		this.device.activate(activation);
		/* The driver may have added buffers before DRIVER_OK, with notifications that we ignored. */
		for (let index = 0; index < this.#queues.length; index++) this.#look(index, false);
	}

	/** The queues that the driver has set up, and the rest of the device's Activation. */
	#activation(
		{ setups, driverFeatures: features }: TransportState,
		positions: readonly (QueuePosition | undefined)[] = [],
		held = this.#quiesced,
	): Activation {
		const queues = setups.map((setup, index) => {
			if (!setup.ready) return undefined;
			const events = {
				interrupt: () => this.#interrupt(INTERRUPT_USED_BUFFER),
				broken: (why: string) => this.#needsReset(why),
				/* After other events had their turn. */
				more: () => void setImmediate(() => this.#enter(this.name, () => this.#look(index, false))),
			};
			const queue = new Virtqueue(this.#memory, layoutOf(setup, features), events, {
				position: positions[index],
				observers: { observers: this.#observers, device: this.name, index },
			});
			if (held) queue.hold();
			return queue;
		});
		const thread = this.#thread;
		const collect = () => this.device.collect?.();
		this.#pollers =
			thread === undefined
				? []
				: queues.map(
						(queue, index) => queue && new Poller(thread, { queue, serve: () => this.#serve(index), collect }),
					);
		return {
			queues,
			features,
			memory: this.#memory,
			enter: this.#enter,
			observers: this.#observers,
			/* A late completion may call these after a reset. It must not affect the next activation. */
			configChanged: () => {
				this.state.configGeneration = (this.state.configGeneration + 1) >>> 0;
				if (this.#queues === queues) this.#interrupt(INTERRUPT_CONFIG_CHANGE);
			},
			needsReset: (why) => {
				if (this.#queues === queues) this.#needsReset(why);
			},
		};
	}

	/** Resolves once the reset is complete; undefined when it is already. */
	#reset(): Promise<void> | undefined {
		if (this.#resetting !== undefined) return this.#resetting;
		for (const queue of this.#queues) queue?.kill();
		this.#queues = [];
		const settled = this.#active ? this.device.reset() : undefined;
		this.#active = false;
		if (!(settled instanceof Promise)) {
			this.#becomeFresh();
			return undefined;
		}
		const failed = (cause: unknown) =>
			this.#enter(this.name, () => {
				throw cause;
			});
		this.#resetting = settled.then(() => this.#enter(this.name, () => this.#becomeFresh()), failed);
		return this.#resetting;
	}

	#becomeFresh(): void {
		this.#resetting = undefined;
		this.state = { ...freshState(this.queueCount), configGeneration: this.state.configGeneration };
		Atomics.store(this.interruptStatus, 0, 0);
		this.#observers.observer?.status?.(this.name, 0, 0n);
		this.release();
	}

	#needsReset(why: string): void {
		logRateLimited(this.name, "warn", `the driver broke the rules, the device needs a reset: ${why}`);
		this.#observers.observer?.violation?.(this.name, why, true);
		if ((this.state.status & DEVICE_NEEDS_RESET) !== 0) return;
		this.state.status |= DEVICE_NEEDS_RESET;
		for (const queue of this.#queues) queue?.kill();
		if ((this.state.status & DRIVER_OK) !== 0) this.#interrupt(INTERRUPT_CONFIG_CHANGE);
	}

	#interrupt(cause: number): void {
		/* The bit is set first: the driver reads InterruptStatus as soon as the line rises. */
		Atomics.or(this.interruptStatus, 0, cause);
		this.#observers.observer?.interrupt?.(this.name, cause);
		if (this.#notifying) this.#raiseDue = true;
		else this.#line.raise();
	}

	protected setDriverFeatures(value: number): void {
		if ((this.state.status & (DRIVER | FEATURES_OK)) !== DRIVER) {
			this.ignored("DriverFeatures in this state");
			return;
		}
		if (this.state.driverFeaturesSel > 1) {
			if (value !== 0) this.ignored(`DriverFeatures of word ${this.state.driverFeaturesSel}`);
			return;
		}
		const shift = BigInt(32 * this.state.driverFeaturesSel);
		const others = this.state.driverFeatures & ~(0xffff_ffffn << shift);
		this.state.driverFeatures = others | (BigInt(value) << shift);
	}

	protected setQueueReady(setup: QueueSetup, ready: boolean): void {
		if (ready) {
			const max = this.device.queueSizes[this.state.queueSel]!;
			const fault = faultOf(setup, max, this.state.driverFeatures, this.#memory);
			if (fault !== undefined) {
				this.#needsReset(`queue ${this.state.queueSel}: ${fault}`);
				return;
			}
		}
		setup.ready = ready;
	}

	protected ignored(what: string): void {
		logRateLimited(this.name, "warn", `ignored ${what}`);
		this.#observers.observer?.violation?.(this.name, `ignored ${what}`, false);
	}
}

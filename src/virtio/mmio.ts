/*
 * The MMIO transport, version 2 (virtio 1.2 §4.2): the registers through which the driver finds a device, agrees on
 * features, places the queues and says DRIVER_OK. Then the finished Virtqueues go to the device (device.ts) and the
 * transport only carries notifications in and interrupts out:
 *
 *     QueueNotify -> ioeventfd -> reactor -> notify(index) -> device.notify -> queue.flush -> InterruptStatus, line
 *
 * InterruptStatus lives in a word shared with the native helper, which may answer InterruptStatus reads and
 * InterruptACK writes without waking TypeScript; both work here as well.
 */
import type { BusDevice } from "../base/bus.ts";
import { type Enter, enterDirectly } from "../base/enter.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { limited } from "../base/log.ts";
import type { VirtioDevice } from "./device.ts";
import { type QueueLayout, Virtqueue } from "./queue.ts";
import {
	ACKNOWLEDGE,
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
	VIRTIO_MMIO,
	VIRTIO_MMIO_MAGIC,
	VIRTIO_MMIO_VERSION,
} from "./spec.ts";

/** An interrupt line; raise is an edge. */
export interface InterruptLine {
	/** An edge. */
	raise(): void;
}

/** VendorID: "tsvm", which no driver looks at. */
const VENDOR_ID = 0x6d767374;
const TRANSPORT_FEATURES = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;

/**
 * Status values that a driver may write after each other (virtio 1.2 §3.1.1), besides 0 (reset), the same again, and
 * FAILED on top of anything. Drivers that say ACKNOWLEDGE and DRIVER in one write exist.
 */
const TRANSITIONS: readonly (readonly [from: number, to: number])[] = [
	[0, ACKNOWLEDGE],
	[0, ACKNOWLEDGE | DRIVER],
	[ACKNOWLEDGE, ACKNOWLEDGE | DRIVER],
	[ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK],
	[ACKNOWLEDGE | DRIVER | FEATURES_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK],
];

/** What the driver has written about one queue so far. */
interface QueueSetup {
	num: number;
	descLow: number;
	descHigh: number;
	driverLow: number;
	driverHigh: number;
	deviceLow: number;
	deviceHigh: number;
	ready: boolean;
}

const FRESH: QueueSetup = {
	num: 0,
	descLow: 0,
	descHigh: 0,
	driverLow: 0,
	driverHigh: 0,
	deviceLow: 0,
	deviceHigh: 0,
	ready: false,
};

/** The registers of one virtio device on the MMIO bus (virtio 1.2 §4.2): status, features and queues of a VirtioDevice. */
export class MmioTransport implements BusDevice {
	/** Where the machine attaches one ioeventfd per queue (32 bits wide, datamatch the queue's index). */
	static readonly queueNotifyOffset = VIRTIO_MMIO.QueueNotify;
	/** Where a shadow word may answer reads. */
	static readonly interruptStatusOffset = VIRTIO_MMIO.InterruptStatus;
	/** Where writes may clear bits of that shadow word. */
	static readonly interruptAckOffset = VIRTIO_MMIO.InterruptACK;

	readonly name: string;
	/** What is behind the registers. */
	readonly device: VirtioDevice;
	/** How many queues the device has. */
	readonly queueCount: number;
	readonly #memory: GuestMemory;
	readonly #line: InterruptLine;
	readonly #interruptStatus: Int32Array;
	readonly #enter: Enter;
	readonly #features: bigint;
	#status = 0;
	#deviceFeaturesSel = 0;
	#driverFeaturesSel = 0;
	#driverFeatures = 0n;
	#queueSel = 0;
	#setups: QueueSetup[];
	#queues: readonly (Virtqueue | undefined)[] = [];
	#active = false;
	#configGeneration = 0;

	/**
	 * @param interruptStatus one word that is this transport's alone, shared with the native helper or not
	 * @param enter the way into the machine that the device belongs to
	 */
	constructor(
		device: VirtioDevice,
		memory: GuestMemory,
		line: InterruptLine,
		interruptStatus: Int32Array,
		enter: Enter = enterDirectly,
	) {
		this.name = device.name;
		this.device = device;
		this.queueCount = device.queueSizes.length;
		this.#memory = memory;
		this.#line = line;
		this.#interruptStatus = interruptStatus;
		this.#enter = enter;
		this.#features = device.features | TRANSPORT_FEATURES;
		this.#setups = device.queueSizes.map(() => ({ ...FRESH }));
	}

	/** Device status (virtio 1.2 §2.1) as the driver reads it. */
	get status(): number {
		return this.#status;
	}

	/** The driver's QueueNotify for queue `index`: from an ioeventfd, or a plain write. Ignored unless active. */
	notify(index: number): void {
		if ((this.#status & (DRIVER_OK | DEVICE_NEEDS_RESET)) !== DRIVER_OK) return;
		const queue = this.#queues[index];
		if (queue === undefined) return;
		queue.beginTurn();
		this.device.notify(index);
	}

	read(offset: number, size: number): number {
		if (offset >= VIRTIO_MMIO.Config) return this.#readConfig(offset - VIRTIO_MMIO.Config, size);
		if (size !== 4) {
			this.#ignored(`a read of ${size} bytes at 0x${offset.toString(16)}`);
			return 0;
		}
		const setup = this.#setups[this.#queueSel];
		switch (offset) {
			case VIRTIO_MMIO.MagicValue:
				return VIRTIO_MMIO_MAGIC;
			case VIRTIO_MMIO.Version:
				return VIRTIO_MMIO_VERSION;
			case VIRTIO_MMIO.DeviceID:
				return this.device.deviceId;
			case VIRTIO_MMIO.VendorID:
				return VENDOR_ID;
			case VIRTIO_MMIO.DeviceFeatures:
				if (this.#deviceFeaturesSel > 1) return 0;
				return Number((this.#features >> BigInt(32 * this.#deviceFeaturesSel)) & 0xffff_ffffn);
			case VIRTIO_MMIO.QueueNumMax:
				return this.device.queueSizes[this.#queueSel] ?? 0;
			case VIRTIO_MMIO.QueueReady:
				return setup?.ready ? 1 : 0;
			case VIRTIO_MMIO.InterruptStatus:
				return Atomics.load(this.#interruptStatus, 0);
			case VIRTIO_MMIO.Status:
				return this.#status;
			case VIRTIO_MMIO.SHMLenLow:
			case VIRTIO_MMIO.SHMLenHigh:
			case VIRTIO_MMIO.SHMBaseLow:
			case VIRTIO_MMIO.SHMBaseHigh:
				return 0xffff_ffff; /* no shared memory region: length and base are all ones */
			case VIRTIO_MMIO.ConfigGeneration:
				return this.#configGeneration;
			default:
				return 0;
		}
	}

	write(offset: number, size: number, value: number): void {
		if (offset >= VIRTIO_MMIO.Config) {
			this.#writeConfig(offset - VIRTIO_MMIO.Config, size, value);
			return;
		}
		if (size !== 4) {
			this.#ignored(`a write of ${size} bytes at 0x${offset.toString(16)}`);
			return;
		}
		switch (offset) {
			case VIRTIO_MMIO.QueueNotify:
				this.notify(value);
				return;
			case VIRTIO_MMIO.InterruptACK:
				Atomics.and(this.#interruptStatus, 0, ~value);
				return;
			case VIRTIO_MMIO.Status:
				this.#writeStatus(value);
				return;
			case VIRTIO_MMIO.DeviceFeaturesSel:
				this.#deviceFeaturesSel = value;
				return;
			case VIRTIO_MMIO.DriverFeaturesSel:
				this.#driverFeaturesSel = value;
				return;
			case VIRTIO_MMIO.DriverFeatures:
				this.#writeDriverFeatures(value);
				return;
			case VIRTIO_MMIO.QueueSel:
				this.#queueSel = value;
				return;
			case VIRTIO_MMIO.SHMSel:
				return;
			default:
				this.#writeQueue(offset, value);
				return;
		}
	}

	#writeStatus(value: number): void {
		if (value === 0) {
			this.#reset();
			return;
		}
		const from = this.#status & ~(DEVICE_NEEDS_RESET | FAILED);
		const to = value & ~(DEVICE_NEEDS_RESET | FAILED);
		/* The driver cannot clear NEEDS_RESET or take FAILED back, except by a reset. */
		this.#status |= value & FAILED;
		if (to === from) return;
		if ((this.#status & FAILED) !== 0 || !TRANSITIONS.some(([a, b]) => a === from && b === to)) {
			this.#ignored(`status 0x${value.toString(16)} after 0x${this.#status.toString(16)}`);
			return;
		}
		if ((to & ~from & FEATURES_OK) !== 0) {
			const missing = this.#driverFeatures & ~this.#features;
			if (missing !== 0n || (this.#driverFeatures & VIRTIO_F_VERSION_1) === 0n) {
				this.#ignored(`FEATURES_OK with features 0x${this.#driverFeatures.toString(16)}`);
				return;
			}
		}
		this.#status |= to;
		if ((to & ~from & DRIVER_OK) !== 0) this.#activate();
	}

	#activate(): void {
		const eventIdx = (this.#driverFeatures & VIRTIO_F_EVENT_IDX) !== 0n;
		const indirect = (this.#driverFeatures & VIRTIO_F_INDIRECT_DESC) !== 0n;
		/* After a refused queue the device stays inactive until reset. */
		if ((this.#status & DEVICE_NEEDS_RESET) !== 0) {
			this.#interrupt(INTERRUPT_CONFIG_CHANGE);
			return;
		}
		const queues = this.#setups.map((setup, index) => {
			if (!setup.ready) return undefined;
			return new Virtqueue(this.#memory, layoutOf(setup, eventIdx, indirect), {
				interrupt: () => this.#interrupt(INTERRUPT_USED_BUFFER),
				broken: (why: string) => this.#needsReset(why),
				/* After other events had their turn. */
				more: () => void setImmediate(() => this.#enter(this.name, () => this.notify(index))),
			});
		});
		this.#queues = queues;
		this.#active = true;
		this.device.activate({
			queues,
			features: this.#driverFeatures,
			memory: this.#memory,
			enter: this.#enter,
			/* A device that outlives this activation (late completions) must not speak for the next one. */
			configChanged: () => {
				this.#configGeneration = (this.#configGeneration + 1) >>> 0;
				if (this.#queues === queues) this.#interrupt(INTERRUPT_CONFIG_CHANGE);
			},
			needsReset: (why) => {
				if (this.#queues === queues) this.#needsReset(why);
			},
		});
		/* The driver may have added buffers before DRIVER_OK, with notifications that we ignored. */
		for (let index = 0; index < queues.length; index++) this.notify(index);
	}

	#reset(): void {
		for (const queue of this.#queues) queue?.kill();
		if (this.#active) this.device.reset();
		this.#active = false;
		this.#queues = [];
		this.#setups = this.device.queueSizes.map(() => ({ ...FRESH }));
		this.#status = 0;
		this.#driverFeatures = 0n;
		this.#deviceFeaturesSel = 0;
		this.#driverFeaturesSel = 0;
		this.#queueSel = 0;
		Atomics.store(this.#interruptStatus, 0, 0);
	}

	#needsReset(why: string): void {
		limited(this.name, "warn", `the driver broke the rules, the device needs a reset: ${why}`);
		if ((this.#status & DEVICE_NEEDS_RESET) !== 0) return;
		this.#status |= DEVICE_NEEDS_RESET;
		for (const queue of this.#queues) queue?.kill();
		if ((this.#status & DRIVER_OK) !== 0) this.#interrupt(INTERRUPT_CONFIG_CHANGE);
	}

	#interrupt(cause: number): void {
		/* The bit first: the driver reads InterruptStatus as soon as the line rises. */
		Atomics.or(this.#interruptStatus, 0, cause);
		this.#line.raise();
	}

	#writeDriverFeatures(value: number): void {
		if ((this.#status & (DRIVER | FEATURES_OK)) !== DRIVER) {
			this.#ignored("DriverFeatures in this state");
			return;
		}
		if (this.#driverFeaturesSel > 1) {
			if (value !== 0) this.#ignored(`DriverFeatures of word ${this.#driverFeaturesSel}`);
			return;
		}
		const shift = BigInt(32 * this.#driverFeaturesSel);
		const others = this.#driverFeatures & ~(0xffff_ffffn << shift);
		this.#driverFeatures = others | (BigInt(value) << shift);
	}

	#writeQueue(offset: number, value: number): void {
		const setup = this.#setups[this.#queueSel];
		const isReady = offset === VIRTIO_MMIO.QueueReady;
		if (isReady && value === 0 && !setup?.ready) return; /* Linux says so when it removes a queue after reset */
		const open = (this.#status & (FEATURES_OK | DRIVER_OK)) === FEATURES_OK;
		if (setup === undefined || !open || (setup.ready && !isReady)) {
			this.#ignored(`a write of 0x${value.toString(16)} at 0x${offset.toString(16)} in this state`);
			return;
		}
		switch (offset) {
			case VIRTIO_MMIO.QueueNum:
				setup.num = value;
				return;
			case VIRTIO_MMIO.QueueReady:
				this.#writeQueueReady(setup, (value & 1) !== 0);
				return;
			case VIRTIO_MMIO.QueueDescLow:
				setup.descLow = value;
				return;
			case VIRTIO_MMIO.QueueDescHigh:
				setup.descHigh = value;
				return;
			case VIRTIO_MMIO.QueueDriverLow:
				setup.driverLow = value;
				return;
			case VIRTIO_MMIO.QueueDriverHigh:
				setup.driverHigh = value;
				return;
			case VIRTIO_MMIO.QueueDeviceLow:
				setup.deviceLow = value;
				return;
			case VIRTIO_MMIO.QueueDeviceHigh:
				setup.deviceHigh = value;
				return;
			default:
				this.#ignored(`a write at 0x${offset.toString(16)}: it is no register for writing`);
		}
	}

	#writeQueueReady(setup: QueueSetup, ready: boolean): void {
		if (ready) {
			const max = this.device.queueSizes[this.#queueSel]!;
			const fault =
				setup.num > max
					? `queue size ${setup.num} is above ${max}`
					: Virtqueue.refuses(this.#memory, layoutOf(setup, false, false));
			if (fault !== undefined) {
				this.#needsReset(`queue ${this.#queueSel}: ${fault}`);
				return;
			}
		}
		setup.ready = ready;
	}

	#readConfig(offset: number, size: number): number {
		/* One read of each byte, in the guest's order; past the end of the config space are zeroes. */
		let value = 0;
		for (let i = 0; i < size; i++) value |= (this.device.config[offset + i] ?? 0) << (8 * i);
		return value >>> 0;
	}

	#writeConfig(offset: number, size: number, value: number): void {
		const { device } = this;
		const wanted = device.writeConfig !== undefined && offset + size <= device.config.length;
		if (!wanted || (this.#status & DRIVER) === 0) {
			this.#ignored(`a config write at offset ${offset}`);
			return;
		}
		const data = new Uint8Array(size);
		for (let i = 0; i < size; i++) data[i] = value >>> (8 * i);
		device.writeConfig?.(offset, data);
	}

	#ignored(what: string): void {
		limited(this.name, "warn", `ignored ${what}`);
	}
}

function layoutOf(setup: QueueSetup, eventIdx: boolean, indirect: boolean): QueueLayout {
	return {
		size: setup.num,
		desc: setup.descLow + setup.descHigh * 0x1_0000_0000,
		avail: setup.driverLow + setup.driverHigh * 0x1_0000_0000,
		used: setup.deviceLow + setup.deviceHigh * 0x1_0000_0000,
		eventIdx,
		indirect,
	};
}

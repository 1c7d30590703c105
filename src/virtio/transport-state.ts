/*
 * The values that a driver has written to a transport (virtio 1.2 §2.1, §2.2, §4.2.2), as saved state. They are checked
 * at a restore: the transport must be in a state that a driver can reach by its writes.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import type { StateObject, StateReader } from "../base/state.ts";
import { u64 } from "../base/u64.ts";
import { type QueueLayout, type QueuePosition, Virtqueue } from "./queue.ts";
import {
	ACKNOWLEDGE,
	DEVICE_NEEDS_RESET,
	DRIVER,
	DRIVER_OK,
	FAILED,
	FEATURES_OK,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_VERSION_1,
	VIRTIO_MMIO,
} from "./spec.ts";

/** What the driver has written about one queue so far. */
export interface QueueSetup {
	num: number;
	descLow: number;
	descHigh: number;
	driverLow: number;
	driverHigh: number;
	deviceLow: number;
	deviceHigh: number;
	ready: boolean;
}

/** Which field each register of a queue holds, except QueueReady. */
export const QUEUE_REGISTERS: Readonly<Record<number, Exclude<keyof QueueSetup, "ready"> | undefined>> = {
	[VIRTIO_MMIO.QueueNum]: "num",
	[VIRTIO_MMIO.QueueDescLow]: "descLow",
	[VIRTIO_MMIO.QueueDescHigh]: "descHigh",
	[VIRTIO_MMIO.QueueDriverLow]: "driverLow",
	[VIRTIO_MMIO.QueueDriverHigh]: "driverHigh",
	[VIRTIO_MMIO.QueueDeviceLow]: "deviceLow",
	[VIRTIO_MMIO.QueueDeviceHigh]: "deviceHigh",
};

/** The layout that a queue gets with the features that were agreed on. */
export function layoutOf(setup: QueueSetup, features: bigint): QueueLayout {
	return {
		size: setup.num,
		desc: u64(setup.descLow, setup.descHigh),
		avail: u64(setup.driverLow, setup.driverHigh),
		used: u64(setup.deviceLow, setup.deviceHigh),
		eventIdx: (features & VIRTIO_F_EVENT_IDX) !== 0n,
		indirect: (features & VIRTIO_F_INDIRECT_DESC) !== 0n,
	};
}

/** All that a transport knows between two accesses of its driver, besides its queues and its device. */
export interface TransportState {
	status: number;
	deviceFeaturesSel: number;
	driverFeaturesSel: number;
	driverFeatures: bigint;
	queueSel: number;
	configGeneration: number;
	setups: QueueSetup[];
}

/** A queue that the driver has not set up. */
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

/** As after a reset. */
export function freshState(queueCount: number): TransportState {
	return {
		status: 0,
		deviceFeaturesSel: 0,
		driverFeaturesSel: 0,
		driverFeatures: 0n,
		queueSel: 0,
		configGeneration: 0,
		setups: Array.from({ length: queueCount }, () => ({ ...FRESH })),
	};
}

/** What a state is checked against. */
export interface TransportShape {
	/** What the transport offers. */
	readonly features: bigint;
	readonly queueSizes: readonly number[];
	readonly memory: GuestMemory;
}

/**
 * Status values that a driver may write after each other (virtio 1.2 §3.1.1). It may always write 0 (reset), the same
 * value again, and any value with FAILED added. Some drivers write ACKNOWLEDGE and DRIVER at once.
 */
export const TRANSITIONS: readonly (readonly [from: number, to: number])[] = [
	[0, ACKNOWLEDGE],
	[0, ACKNOWLEDGE | DRIVER],
	[ACKNOWLEDGE, ACKNOWLEDGE | DRIVER],
	[ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK],
	[ACKNOWLEDGE | DRIVER | FEATURES_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK],
];

/** True when the device has its queues. A device that needs a reset has lost them. */
export function isActive(status: number): boolean {
	return (status & (DRIVER_OK | DEVICE_NEEDS_RESET)) === DRIVER_OK;
}

/** As plain data; `positions` has an entry per queue, undefined where there is no live one. */
export function saveTransport(state: TransportState, positions: readonly (QueuePosition | undefined)[]): StateObject {
	const { setups, ...registers } = state;
	const queues = setups.map((setup, i) => ({ ...setup, ...positions[i] }));
	return { ...registers, queues };
}

/**
 * Reads what `saveTransport` gave. The saved transport may have had fewer queues: its driver does not use the others.
 *
 * @throws SnapshotError ERR_STATE_FORMAT, or ERR_STATE_MISMATCH when `shape` is not that of the saved transport
 */
export function readTransport(
	reader: StateReader,
	shape: TransportShape,
): { state: TransportState; positions: (QueuePosition | undefined)[] } {
	const status = reader.u8("status");
	const steps = status & ~(DEVICE_NEEDS_RESET | FAILED);
	if (steps !== 0 && !TRANSITIONS.some(([, to]) => to === steps)) throw reader.refuse(`its status is ${status}`);
	const driverFeatures = reader.u64("driverFeatures");
	if ((status & FEATURES_OK) !== 0) {
		const missing = driverFeatures & ~shape.features;
		if (missing !== 0n)
			throw reader.mismatch(`its driver uses features 0x${missing.toString(16)}, which are not offered`);
		if ((driverFeatures & VIRTIO_F_VERSION_1) === 0n)
			throw reader.refuse("its driver did not accept VIRTIO_F_VERSION_1");
	}
	const queues = reader.list("queues", 0, 1024);
	if (queues.length > shape.queueSizes.length) {
		throw reader.mismatch(`it had ${queues.length} queues, the new one has ${shape.queueSizes.length}`);
	}
	const setups = queues.map((queue, i) => {
		const setup = readQueue(queue);
		if (!setup.ready) return setup;
		if ((status & FEATURES_OK) === 0) throw queue.refuse("it is ready before FEATURES_OK");
		const fault = faultOf(setup, shape.queueSizes[i]!, driverFeatures, shape.memory);
		if (fault !== undefined) throw queue.mismatch(fault);
		return setup;
	});
	const positions = queues.map((queue, i) =>
		setups[i]!.ready && isActive(status)
			? { nextAvail: queue.u16("nextAvail"), nextUsed: queue.u16("nextUsed") }
			: undefined,
	);
	const state: TransportState = {
		status,
		deviceFeaturesSel: reader.u32("deviceFeaturesSel"),
		driverFeaturesSel: reader.u32("driverFeaturesSel"),
		driverFeatures,
		queueSel: reader.u32("queueSel"),
		configGeneration: reader.u32("configGeneration"),
		setups: freshState(shape.queueSizes.length).setups.map((fresh, i) => setups[i] ?? fresh),
	};
	return { state, positions };
}

function readQueue(queue: StateReader): QueueSetup {
	return {
		num: queue.u32("num"),
		descLow: queue.u32("descLow"),
		descHigh: queue.u32("descHigh"),
		driverLow: queue.u32("driverLow"),
		driverHigh: queue.u32("driverHigh"),
		deviceLow: queue.u32("deviceLow"),
		deviceHigh: queue.u32("deviceHigh"),
		ready: queue.boolean("ready"),
	};
}

/** Why a device does not look at a queue that it was notified of. */
export function whyIdle(status: number): string {
	if ((status & DEVICE_NEEDS_RESET) !== 0) return "the device needs a reset";
	return (status & DRIVER_OK) === 0 ? "DRIVER_OK is not set" : "the queue is not ready";
}

/** Why the driver's values for a queue are invalid; undefined when they are valid. */
export function faultOf(setup: QueueSetup, max: number, features: bigint, memory: GuestMemory): string | undefined {
	if (setup.num > max) return `queue size ${setup.num} is above ${max}`;
	return Virtqueue.validateLayout(memory, layoutOf(setup, features));
}

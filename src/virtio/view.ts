/*
 * What a transport and its queues look like at one moment, as plain data: for people who look on, such as the
 * inspector. Nothing here changes a device, and nothing is kept. The chains are those that the device has checked; what
 * waits in the available ring is only what the driver has written there.
 *
 *     nextUsed <------ in flight ------> nextAvail <------ waiting ------> availIdx      all modulo 2^16
 */
import type { GuestMemory, MemoryWindow } from "../base/guest-memory.ts";
import type { Segments } from "../base/segments.ts";
import type { VirtioDevice } from "./device.ts";
import type { Chain, QueueLayout, Virtqueue } from "./queue.ts";
import { availBytes, availEntry } from "./ring.ts";
import { layoutOf, type TransportState } from "./transport-state.ts";

/** A piece of guest memory that a chain names. */
export interface BufferView {
	/** Guest-physical address. */
	readonly gpa: number;
	readonly bytes: number;
	/** The device writes it. */
	readonly writable: boolean;
}

/** A chain that the device has taken and not given back. */
export interface ChainView {
	/** Index of its first descriptor. */
	readonly head: number;
	/** Its first buffers, in their order. */
	readonly buffers: readonly BufferView[];
	/** How many buffers more it has. */
	readonly more: number;
}

/** The indices of a queue that its device serves. */
export interface QueueIndices {
	/** The driver's index of the available ring: where it will put the next chain. */
	readonly availIdx: number;
	/** The next entry of the available ring that the device takes. */
	readonly nextAvail: number;
	/** The next entry of the used ring that the device writes. */
	readonly nextUsed: number;
	/** The device's index of the used ring: up to here the driver sees chains that came back. */
	readonly usedIdx: number;
	/** Chains in flight, all of them. */
	readonly inFlight: number;
}

/** A live queue: its indices, and its first chains. */
export interface LiveQueueView extends QueueIndices {
	/** The first of the chains in flight. */
	readonly chains: readonly ChainView[];
	/** Heads of the first chains that wait in the available ring. */
	readonly waiting: readonly number[];
	/** The driver broke the rules: the queue is dead until a reset. */
	readonly broken: boolean;
}

/** A queue as its driver has set it up. */
export interface QueueView extends QueueLayout {
	readonly index: number;
	/** The largest size that the device offers. */
	readonly maxSize: number;
	/** The driver has set QueueReady. */
	readonly ready: boolean;
	/** Missing while the device does not serve it. */
	readonly live?: LiveQueueView;
}

/** The registers of a transport, and its queues. */
export interface TransportView {
	readonly name: string;
	/** Device ID, virtio 1.2 §5. */
	readonly deviceId: number;
	readonly status: number;
	readonly interruptStatus: number;
	readonly configGeneration: number;
	/** What the device offers. */
	readonly features: bigint;
	/** What the driver has accepted so far. */
	readonly driverFeatures: bigint;
	readonly queueSel: number;
	/** A copy of the device's config space. */
	readonly config: Uint8Array;
	readonly queues: readonly QueueView[];
}

/** A view is for people: it shows no more than these of each. */
const MOST_CHAINS = 32;
const MOST_BUFFERS = 8;

/** The buffers of a chain in flight. */
function viewChain({ head, readable, writable }: Chain): ChainView {
	const all = [...buffersOf(readable, false), ...buffersOf(writable, true)];
	const more = readable.count + writable.count - Math.min(all.length, MOST_BUFFERS);
	return { head, buffers: all.slice(0, MOST_BUFFERS), more };
}

/** The parts of a transport that its view is of. */
interface ViewedTransport {
	readonly device: VirtioDevice;
	readonly state: TransportState;
	/** What is offered. */
	readonly features: bigint;
	readonly interruptStatus: number;
	readonly queues: readonly (Virtqueue | undefined)[];
	readonly memory: GuestMemory;
}

export function viewTransport({ device, state, memory, ...parts }: ViewedTransport): TransportView {
	const { status, configGeneration, driverFeatures, queueSel, setups } = state;
	const { name, deviceId, config, queueSizes } = device;
	const { features, interruptStatus } = parts;
	const queues = setups.map((setup, index) => {
		const layout = layoutOf(setup, driverFeatures);
		const view = { index, maxSize: queueSizes[index]!, ready: setup.ready, ...layout };
		const queue = parts.queues[index];
		return queue === undefined ? view : { ...view, live: viewQueue(memory, layout, queue) };
	});
	const registers = { status, interruptStatus, configGeneration, features, driverFeatures, queueSel };
	return { name, deviceId, ...registers, config: config.slice(), queues };
}

/** A queue that its device serves. */
function viewQueue(memory: GuestMemory, layout: QueueLayout, queue: Virtqueue): LiveQueueView {
	const { chains, ...indices } = queue.inspect();
	const waiting = waitingHeads(memory, layout, indices);
	return { ...indices, chains: chains.slice(0, MOST_CHAINS).map(viewChain), waiting };
}

/** The heads between `nextAvail` and `availIdx`, as the driver has written them. */
function waitingHeads(memory: GuestMemory, layout: QueueLayout, indices: QueueIndices): number[] {
	const ring = memory.find(layout.avail, availBytes(layout.size));
	if (ring === undefined) return [];
	const waiting = Math.min((indices.availIdx - indices.nextAvail) & 0xffff, layout.size, MOST_CHAINS);
	return Array.from({ length: waiting }, (_, i) => {
		const slot = (indices.nextAvail + i) & (layout.size - 1);
		return ring.view.getUint16(layout.avail - ring.gpa + availEntry(slot), true);
	});
}

function buffersOf(segments: Segments, writable: boolean): BufferView[] {
	return Array.from({ length: Math.min(segments.count, MOST_BUFFERS) }, (_, i) => {
		const { source, start } = segments.place(i);
		/* A queue's segments lie in windows of guest memory. */
		return { gpa: (source as MemoryWindow).gpa + start, bytes: segments.lengths[i]!, writable };
	});
}

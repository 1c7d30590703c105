/*
 * virtio-net (virtio 1.2 §5.1) on a NetBackend: one queue pair, no control queue.
 *
 *     queue 0 receiveq: frames are pulled from the backend, straight into the driver's buffers
 *     queue 1 transmitq: a chain is a frame; one that the backend has no room for is held until `writable`
 *
 * Every frame has struct virtio_net_hdr in front (net-header.ts). A backend with `vnetHeader` gets it once it is
 * checked, and gives one of its own. For other backends it is removed and added here. With MRG_RXBUF a large frame fills
 * several chains. A frame that does not fit into the driver's current buffers waits in a buffer of ours.
 */
import type { NetBackend } from "../backends/contract.ts";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { logRateLimited } from "../base/log.ts";
import type { MacAddress } from "../base/mac.ts";
import { Segments } from "../base/segments.ts";
import { type SavedState, StateReader } from "../base/state.ts";
import { struct } from "../base/struct.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import {
	HEADER_BYTES,
	SentOffloads,
	VIRTIO_NET_F_CSUM,
	VIRTIO_NET_F_HOST_ECN,
	VIRTIO_NET_F_HOST_TSO4,
	VIRTIO_NET_F_HOST_TSO6,
	virtio_net_hdr,
} from "./net-header.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const VIRTIO_ID_NET = 1;

export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_GUEST_ECN = 1n << 9n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
export const VIRTIO_NET_S_LINK_UP = 1;

export const virtio_net_config = struct("virtio_net_config", {
	mac0: "u16",
	mac2: "u16",
	mac4: "u16",
	status: "u16",
	max_virtqueue_pairs: "u16",
	mtu: "u16",
});

const RX = 0;
const TX = 1;
/** Bytes of an Ethernet header with a VLAN tag. */
const LINK_BYTES = 18;
const ETHERNET_HEADER_BYTES = 14;
/** Largest IP packet, with segmentation offload. */
const GSO_BYTES = 65_535;
/** How long the link is down after a restore: long enough for a driver to see it. */
const BOUNCE_MS = 100;
const TSO = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6;

/** The network device (virtio 1.2 §5.1): one pair of queues on a NetBackend, which it owns. */
export class NetDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_NET;
	readonly features: bigint;
	readonly queueSizes = [256, 256];
	/** struct virtio_net_config up to mtu. */
	readonly config = new Uint8Array(virtio_net_config.sizeof);
	readonly #backend: NetBackend;
	/** 0 when backend and guest exchange the header, HEADER_BYTES when it ends here. */
	readonly #ownHeader: number;
	#enter: Enter = enterDirectly;
	#rx: Virtqueue | undefined;
	#tx: Virtqueue | undefined;
	#mergeable = false;
	/** Largest frame that may come, header included. */
	#maxFrame = 0;
	/** Popped receive chains, oldest first, and the sum of their bytes. */
	#held: Chain[] = [];
	#heldBytes = 0;
	/** The backend may have a frame: true from `readable` until `receive` gave 0. */
	#frames = false;
	/** A frame that waits for more receive buffers, header included. */
	readonly #parked: Uint8Array;
	#parkedBytes = 0;
	readonly #parkedSource: { bytes: Uint8Array; hva: number };
	#sending: Chain | undefined;
	/** False once the backend's network has failed. */
	#networkUp = true;
	/** The link goes up again. */
	#bounce: NodeJS.Timeout | undefined;
	#configChanged: Activation["configChanged"] | undefined;
	#busy = false;
	readonly #target = new Segments();
	readonly #frame = new Segments();
	readonly #header = new Uint8Array(HEADER_BYTES);
	/** The header of the frame that is sent, our own copy. */
	readonly #sentHeader = new Uint8Array(HEADER_BYTES);
	readonly #sentView = new DataView(this.#sentHeader.buffer);
	#sentOffloads = new SentOffloads(0n);

	/**
	 * @param mac the interface's address as the guest sees it, 6 bytes
	 */
	constructor(backend: NetBackend, mac: MacAddress, name = "virtio-net0") {
		const { offloads, mtu } = backend;
		this.name = name;
		this.#backend = backend;
		this.#ownHeader = offloads.vnetHeader ? 0 : HEADER_BYTES;
		this.#parked = new Uint8Array(HEADER_BYTES + LINK_BYTES + GSO_BYTES);
		this.#parkedSource = { bytes: this.#parked, hva: 0 };
		let features = VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_MRG_RXBUF;
		if (mtu !== undefined) features |= VIRTIO_NET_F_MTU;
		if (offloads.csum) features |= VIRTIO_NET_F_CSUM;
		if (offloads.csum && offloads.tso) {
			features |= VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN;
		}
		if (offloads.guestCsum) features |= VIRTIO_NET_F_GUEST_CSUM;
		if (offloads.guestCsum && offloads.guestTso) features |= TSO | VIRTIO_NET_F_GUEST_ECN;
		this.features = features;
		this.config.set(mac.bytes, virtio_net_config.mac0);
		this.#setLink(true);
		const view = new DataView(this.config.buffer);
		view.setUint16(virtio_net_config.max_virtqueue_pairs, 1, true);
		view.setUint16(virtio_net_config.mtu, mtu ?? 1500, true);
		backend.start({
			readable: () => {
				this.#frames = true;
				this.#receive();
			},
			writable: () => this.#transmit(),
			linkDown: () => this.#linkDown(),
		});
	}

	activate({ queues, features, enter, configChanged }: Activation): void {
		this.#enter = enter;
		this.#configChanged = configChanged;
		this.#rx = queues[RX];
		this.#tx = queues[TX];
		this.#mergeable = (features & VIRTIO_NET_F_MRG_RXBUF) !== 0n;
		const csum = (features & VIRTIO_NET_F_GUEST_CSUM) !== 0n;
		const tso = csum && (features & TSO) === TSO;
		this.#backend.setGuestOffloads({ csum, tso, ecn: tso && (features & VIRTIO_NET_F_GUEST_ECN) !== 0n });
		this.#sentOffloads = new SentOffloads(features);
		const packet = tso ? GSO_BYTES : Math.max(this.#backend.mtu ?? 1500, 1500);
		this.#maxFrame = HEADER_BYTES + LINK_BYTES + packet;
	}

	notify(index: number): void {
		if (index === RX) this.#receive();
		else if (index === TX) this.#transmit();
	}

	reset(): void {
		this.#rx = undefined;
		this.#tx = undefined;
		this.#held = [];
		this.#heldBytes = 0;
		this.#parkedBytes = 0;
		this.#sending = undefined;
		clearTimeout(this.#bounce);
		this.#setLink(true);
		/* Frames must be plain until the next driver has negotiated offloads. */
		if (this.#configChanged !== undefined) this.#backend.setGuestOffloads({ csum: false, tso: false, ecn: false });
		this.#configChanged = undefined;
	}

	/** Chains that wait for a frame, or for room at the backend, go back. */
	async quiesce(): Promise<void> {
		for (const chain of this.#held.splice(0).reverse()) this.#rx?.unpop(chain);
		this.#heldBytes = 0;
		if (this.#sending !== undefined) this.#tx?.unpop(this.#sending);
		this.#sending = undefined;
	}

	/** The frame that waits for buffers. */
	save(): SavedState {
		return { version: 1, parked: this.#parked.slice(0, this.#parkedBytes) };
	}

	/**
	 * The network behind the device is another one, even if it seems to be the same. The link goes down for a moment, so
	 * that the guest renews its leases and neighbours.
	 */
	restore(state: unknown, activation: Activation | undefined): void {
		const parked = new StateReader(this.name, state).version(1).bytes("parked", 0, this.#parked.length);
		if (activation === undefined) return;
		this.activate(activation);
		this.#parked.set(parked);
		this.#parkedBytes = parked.length;
		if ((activation.features & VIRTIO_NET_F_STATUS) === 0n) return;
		this.#setLink(false);
		const up = () => {
			this.#setLink(true);
			this.#configChanged?.();
		};
		this.#bounce = setTimeout(() => this.#enter(this.name, up), BOUNCE_MS);
	}

	async close(): Promise<void> {
		this.reset();
		await this.#backend.close();
	}

	/** Clears VIRTIO_NET_S_LINK_UP for good. The frame that waits for room is dropped by the backend like all others. */
	#linkDown(): void {
		this.#networkUp = false;
		clearTimeout(this.#bounce);
		this.#setLink(false);
		this.#configChanged?.();
		this.#transmit();
	}

	#setLink(up: boolean): void {
		const status = up && this.#networkUp ? VIRTIO_NET_S_LINK_UP : 0;
		new DataView(this.config.buffer).setUint16(virtio_net_config.status, status, true);
	}

	#transmit(): void {
		const tx = this.#tx;
		if (tx === undefined) return;
		for (;;) {
			const chain = this.#sending ?? tx.pop();
			this.#sending = undefined;
			if (chain === undefined) break;
			if (!this.#sends(chain)) {
				this.#sending = chain;
				break;
			}
			tx.push(chain, 0);
		}
		tx.flush();
	}

	/** False when the backend has no room; a chain that is no frame counts as sent. */
	#sends(chain: Chain): boolean {
		const { totalBytes } = chain.readable;
		if (totalBytes < HEADER_BYTES + ETHERNET_HEADER_BYTES || totalBytes > this.#parked.length) {
			logRateLimited(this.name, "warn", `a chain of ${totalBytes} bytes to send is no frame`);
			return true;
		}
		const frame = chain.readable.slice(HEADER_BYTES, totalBytes - HEADER_BYTES, this.#frame);
		if (this.#ownHeader > 0) return this.#backend.send(frame);
		chain.readable.copyTo(this.#sentHeader);
		const fault = this.#sentOffloads.check(this.#sentView, frame.totalBytes);
		if (fault === undefined) return this.#backend.send(frame, this.#sentHeader);
		logRateLimited(this.name, "warn", `a frame of ${frame.totalBytes} bytes has a wrong header: ${fault}`);
		return true;
	}

	#receive(): void {
		const rx = this.#rx;
		/* A backend may call `readable` from inside `receive`. */
		if (rx === undefined || this.#busy) return;
		this.#busy = true;
		while (!rx.turnIsOver()) {
			if (this.#parkedBytes > 0) {
				if (!this.#deliverParked(rx)) break;
			} else if (!this.#frames || !this.#pull(rx)) {
				break;
			}
		}
		rx.flush();
		this.#busy = false;
	}

	/** Takes one frame from the backend. False when there is none, or no buffer for one. */
	#pull(rx: Virtqueue): boolean {
		const roomy = this.#hold(rx, this.#maxFrame);
		if (this.#held.length === 0) return false;
		const target = this.#target;
		target.clear();
		if (roomy) for (const chain of this.#held) target.append(chain.writable);
		else target.add(this.#parkedSource, 0, this.#parked.length);
		const into = this.#ownHeader === 0 ? target : target.slice(HEADER_BYTES, target.totalBytes, this.#frame);
		const received = this.#backend.receive(into);
		if (received === 0) {
			this.#frames = false;
			return false;
		}
		if (received < 0) {
			rx.spend();
			return true;
		}
		if (this.#ownHeader > 0) {
			this.#header.fill(0);
			target.copyFrom(this.#header);
		}
		const length = received + this.#ownHeader;
		if (roomy) this.#deliver(rx, length);
		else this.#parkedBytes = length;
		return true;
	}

	/** Copies the parked frame once there are buffers for it. False when there are not. */
	#deliverParked(rx: Virtqueue): boolean {
		const length = this.#parkedBytes;
		if (!this.#hold(rx, length)) {
			/* This driver never offers more than one buffer, or a full ring with MRG_RXBUF. */
			const most = this.#held.length === (this.#mergeable ? rx.size : 1);
			if (!most) return false;
			logRateLimited(this.name, "warn", `a frame of ${length} bytes does not fit the driver's buffers`);
			this.#parkedBytes = 0;
			rx.spend();
			return true;
		}
		this.#parkedBytes = 0;
		const target = this.#target;
		target.clear();
		for (const chain of this.#held) target.append(chain.writable);
		target.copyFrom(this.#parked.subarray(0, length));
		this.#deliver(rx, length);
		return true;
	}

	/** Holds chains for `bytes`: as many as it takes with MRG_RXBUF, else one. True when they have room for it. */
	#hold(rx: Virtqueue, bytes: number): boolean {
		while (this.#heldBytes < bytes && (this.#mergeable || this.#held.length === 0)) {
			const chain = rx.pop();
			if (chain === undefined) break;
			const room = chain.writable.totalBytes;
			if (room < HEADER_BYTES) {
				logRateLimited(this.name, "warn", `a receive buffer of ${room} bytes is shorter than a header`);
				rx.push(chain, 0);
				continue;
			}
			this.#held.push(chain);
			this.#heldBytes += room;
		}
		return this.#held.length > 0 && this.#heldBytes >= bytes;
	}

	/** Gives the first held chains, into which a frame of `length` bytes was written, to the driver. */
	#deliver(rx: Virtqueue, length: number): void {
		const header = this.#header;
		let buffers = 0;
		for (let rest = length; rest > 0; buffers++) rest -= this.#held[buffers]!.writable.totalBytes;
		header[0] = buffers;
		header[1] = buffers >>> 8;
		this.#held[0]!.writable.copyFrom(header.subarray(0, 2), virtio_net_hdr.num_buffers);
		let rest = length;
		for (let i = 0; i < buffers; i++) {
			const chain = this.#held[i]!;
			const room = chain.writable.totalBytes;
			this.#heldBytes -= room;
			rx.push(chain, Math.min(rest, room));
			rest -= room;
		}
		this.#held.splice(0, buffers);
	}
}

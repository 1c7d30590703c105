/*
 * virtio-vsock (virtio 1.2 §5.10): streams between ports of the guest and streams of a VsockBackend. This file is the
 * switchboard. It reads the guest's packets and finds their connections. It gives receive buffers to the connections
 * that have a packet to send, one packet each in turn.
 *
 *     queue 0 rx: we write packets     queue 1 tx: we read packets     queue 2 events: a restore resets all streams
 *
 * A stream whose reader is slow runs out of credit and stalls alone. The queues always move on.
 */
import type { Duplex } from "node:stream";
import type { VsockBackend, VsockGuest } from "../../backends/contract.ts";
import { type Enter, enterDirectly } from "../../base/enter.ts";
import { logRateLimited } from "../../base/log.ts";
import { Segments } from "../../base/segments.ts";
import { type SavedState, StateReader } from "../../base/state.ts";
import { setU64 } from "../../base/u64.ts";
import type { Activation, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue.ts";
import { Connection, type ConnectionEvents } from "./connection.ts";
import {
	HEADER_BYTES,
	PAYLOAD_BYTES,
	Packet,
	VIRTIO_VSOCK_OP_CREDIT_REQUEST,
	VIRTIO_VSOCK_OP_CREDIT_UPDATE,
	VIRTIO_VSOCK_OP_REQUEST,
	VIRTIO_VSOCK_OP_RESPONSE,
	VIRTIO_VSOCK_OP_RST,
	VIRTIO_VSOCK_OP_RW,
	VIRTIO_VSOCK_OP_SHUTDOWN,
	VIRTIO_VSOCK_TYPE_STREAM,
	VMADDR_CID_HOST,
	virtio_vsock_config,
} from "./packet.ts";
import { Schedule } from "./schedule.ts";
import { ConnectionTable } from "./table.ts";
import { TransportReset } from "./transport-reset.ts";

export const VIRTIO_ID_VSOCK = 19;

export const VIRTIO_VSOCK_F_STREAM = 1n << 0n;

const RX = 0;
const TX = 1;
const EVENTS = 2;

/** The most connections, with those that still deliver the last bytes of a guest that has closed. */
const MAX_CONNECTIONS = 1024;
/**
 * The receive buffer that a connection announces: large for the first streams, smaller when a guest opens many. All
 * together hold at most 76 MiB, plus 16 KiB of room in chunks each.
 */
const BUF_ALLOC = 256 * 1024;
const BUF_ALLOC_MANY = 64 * 1024;
const MANY = 64;
/** Resets that may wait for receive buffers of the guest. With more of them its own packets have to wait. */
const MAX_RESETS = 256;
const CONNECT_TIMEOUT_MS = 30_000;

/** A connection that the host asked for, until the guest answers. */
interface Request {
	readonly stream: Duplex;
	readonly timer: NodeJS.Timeout;
	readonly gone: () => void;
	readonly answer: (hostPort: number | undefined) => void;
}

/** The socket device (virtio 1.2 §5.10): streams between the guest and a VsockBackend, which it owns. */
export class VsockDevice implements VirtioDevice, VsockGuest {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_VSOCK;
	readonly features = VIRTIO_VSOCK_F_STREAM;
	readonly queueSizes = [256, 256, 64];
	readonly config = new Uint8Array(virtio_vsock_config.sizeof);
	readonly #cid: number;
	readonly #backend: VsockBackend;
	#enter: Enter = enterDirectly;
	readonly #events: ConnectionEvents = {
		enter: (run) => this.#entered(run),
		ready: (connection) => this.#ready(connection),
		broken: (connection) => this.#broken(connection),
	};
	#rx: Virtqueue | undefined;
	#tx: Virtqueue | undefined;
	#eventq: Virtqueue | undefined;
	readonly #transportReset = new TransportReset();
	readonly #table = new ConnectionTable();
	readonly #requests = new Map<Connection, Request>();
	/** Streams whose guest has closed, until they have delivered what it sent. */
	readonly #lingering = new Set<Duplex>();
	/** Resets to be sent, as pairs of host port and guest port. */
	#resets: number[] = [];
	readonly #schedule = new Schedule();
	readonly #in = new Packet();
	readonly #out = new Packet();
	readonly #payload = new Segments();
	#receiving = false;
	/** The connection that has payload to be written before another packet is looked at. */
	#joining: Connection | undefined;
	#txStalled = false;

	/**
	 * @param cid the guest's context ID, 3 to 2^32 - 2
	 * @param backend the host's side, closed with the device
	 */
	constructor(cid: number, backend: VsockBackend, name = "virtio-vsock0") {
		this.name = name;
		this.#cid = cid;
		this.#backend = backend;
		setU64(new DataView(this.config.buffer), virtio_vsock_config.guest_cid, cid);
		backend.start(this);
	}

	activate(activation: Activation): void {
		this.#enter = activation.enter;
		this.#rx = activation.queues[RX];
		this.#tx = activation.queues[TX];
		this.#eventq = activation.queues[EVENTS];
	}

	notify(index: number): void {
		if (index === RX) this.#fillRx();
		else if (index === TX) this.#processTx();
		else if (this.#eventq !== undefined) this.#transportReset.announce(this.#eventq);
	}

	reset(): void {
		this.#rx = undefined;
		this.#tx = undefined;
		this.#eventq = undefined;
		this.#transportReset.forget();
		for (const connection of this.#table.all()) this.#remove(connection);
		for (const stream of this.#lingering) stream.destroy();
		this.#lingering.clear();
		this.#resets = [];
		this.#txStalled = false;
	}

	/** Streams cannot be saved, because their other ends are outside this process. */
	save(): SavedState {
		return { version: 1 };
	}

	/** Every stream of the guest ends by a transport reset (§5.10.6.7); the guest reads its context ID again. */
	restore(state: unknown, activation: Activation | undefined): void {
		new StateReader(this.name, state).version(1);
		if (activation === undefined) return;
		this.activate(activation);
		this.#transportReset.require();
	}

	async close(): Promise<void> {
		this.reset();
		await this.#backend.close();
	}

	/** As of VsockGuest. */
	connect(port: number, stream: Duplex, answer: (hostPort: number | undefined) => void): void {
		const hostPort = this.#rx === undefined || this.#full() ? undefined : this.#table.freePort(port);
		if (hostPort === undefined) {
			answer(undefined);
			return;
		}
		const connection = this.#add(hostPort, port, "request");
		const gone = () => this.#entered(() => this.#remove(connection, true));
		const timer = setTimeout(gone, CONNECT_TIMEOUT_MS);
		timer.unref();
		stream.once("close", gone);
		this.#requests.set(connection, { stream, timer, gone, answer });
		this.#ready(connection);
	}

	#entered(run: () => void): void {
		this.#enter(this.name, run);
	}

	#ready(connection: Connection): void {
		if (!connection.hasPending()) return;
		this.#schedule.add(connection);
		if (!this.#receiving) this.#fillRx();
	}

	#broken(connection: Connection): void {
		this.#remove(connection, true);
		if (!this.#receiving) this.#fillRx();
	}

	/** Reads the guest's packets. */
	#processTx(): void {
		const tx = this.#tx;
		if (tx === undefined || this.#receiving) return;
		this.#receiving = true;
		while (this.#resets.length < 2 * MAX_RESETS) {
			const chain = tx.pop();
			if (chain === undefined) break;
			this.#packet(chain);
			tx.push(chain, 0);
		}
		/* Chains are published only then, so the guest leaves their bytes alone. */
		this.#writeJoined();
		tx.flush();
		this.#receiving = false;
		this.#txStalled = this.#resets.length >= 2 * MAX_RESETS;
		this.#fillRx();
	}

	#packet(chain: Chain): void {
		const packet = this.#in;
		if (!packet.read(chain.readable)) {
			logRateLimited(this.name, "warn", `packet of ${chain.readable.totalBytes} bytes is shorter than a header`);
			return;
		}
		const { srcPort: guestPort, dstPort: hostPort, op, len } = packet;
		if (packet.srcCid !== this.#cid || packet.dstCid !== VMADDR_CID_HOST) {
			logRateLimited(this.name, "warn", `packet from CID ${packet.srcCid} to CID ${packet.dstCid} dropped`);
			return;
		}
		const connection = this.#table.get(hostPort, guestPort);
		if (op !== VIRTIO_VSOCK_OP_RW || connection !== this.#joining) this.#writeJoined();
		const fits = len <= chain.readable.totalBytes - HEADER_BYTES;
		if (packet.type !== VIRTIO_VSOCK_TYPE_STREAM || !fits) {
			logRateLimited(this.name, "warn", `packet of type ${packet.type} with ${len} bytes of payload refused`);
			this.#refuse(connection, hostPort, guestPort, op);
		} else if (connection === undefined) {
			if (op === VIRTIO_VSOCK_OP_REQUEST) this.#requested(hostPort, guestPort);
			else this.#refuse(undefined, hostPort, guestPort, op);
		} else {
			connection.update(packet.bufAlloc, packet.fwdCnt);
			if (!this.#deliver(connection, chain, op, len)) this.#refuse(connection, hostPort, guestPort, op);
		}
	}

	/** Gives a packet to its connection; false when it must not come now, which ends the connection. */
	#deliver(connection: Connection, chain: Chain, op: number, len: number): boolean {
		switch (op) {
			case VIRTIO_VSOCK_OP_RW:
				this.#joining = connection;
				return connection.received(chain.readable, len);
			case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
				return true;
			case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
				connection.creditRequested();
				return true;
			case VIRTIO_VSOCK_OP_SHUTDOWN:
				if (connection.state !== "established") return false;
				if (connection.shutdown(this.#in.flags)) this.#remove(connection, true);
				return true;
			case VIRTIO_VSOCK_OP_RST:
				this.#remove(connection);
				return true;
			case VIRTIO_VSOCK_OP_RESPONSE:
				return this.#accepted(connection);
			default:
				return false;
		}
	}

	/** Writes the payload of packets that followed each other, by one system call. */
	#writeJoined(): void {
		this.#joining?.writeJoined();
		this.#joining = undefined;
	}

	/** Ends the packet's connection and sends a reset, but never answers a reset with a reset. */
	#refuse(connection: Connection | undefined, hostPort: number, guestPort: number, op: number): void {
		if (connection !== undefined) this.#remove(connection);
		if (op !== VIRTIO_VSOCK_OP_RST) this.#resets.push(hostPort, guestPort);
	}

	/** The guest asks for a connection. */
	#requested(hostPort: number, guestPort: number): void {
		if (this.#transportReset.isUnread(this.#eventq)) {
			this.#resets.push(hostPort, guestPort);
			return;
		}
		if (this.#full()) {
			logRateLimited(this.name, "warn", `more than ${MAX_CONNECTIONS} connections refused`);
			this.#resets.push(hostPort, guestPort);
			return;
		}
		const connection = this.#add(hostPort, guestPort, "opening");
		connection.update(this.#in.bufAlloc, this.#in.fwdCnt);
		const opened = (stream: Duplex | undefined) => {
			if (connection.state === "closed") stream?.destroy();
			else if (stream === undefined) this.#broken(connection);
			else connection.establish(stream);
		};
		const later = (stream: Duplex | undefined) => {
			let entered = false;
			this.#entered(() => {
				entered = true;
				opened(stream);
			});
			/* The machine has ended meanwhile. */
			if (!entered) stream?.destroy();
		};
		this.#backend.open(hostPort).then(later, () => later(undefined));
	}

	/** The guest accepted a connection that the host asked for. */
	#accepted(connection: Connection): boolean {
		const request = this.#requests.get(connection);
		if (request === undefined) return false;
		this.#settle(connection, request);
		request.answer(connection.hostPort);
		connection.establish(request.stream);
		return true;
	}

	/** Fills receive buffers: resets first, then one packet of each connection in turn. */
	#fillRx(): void {
		const rx = this.#rx;
		if (rx === undefined || this.#receiving) return;
		while (this.#resets.length > 0 || this.#schedule.first !== undefined) {
			const chain = rx.pop();
			if (chain === undefined) break;
			if (this.#readsInto(rx, chain)) continue;
			rx.push(chain, chain.writable.totalBytes < HEADER_BYTES ? 0 : this.#packetInto(chain));
		}
		rx.flush();
		/* Each call takes many chains before it stalls again, so the queues' turns bound the nesting of the two. */
		if (this.#txStalled && this.#resets.length < MAX_RESETS) this.#processTx();
	}

	/**
	 * Reads for the next connection into `first` and the chains after it, by one system call. False when it has another
	 * packet to send.
	 */
	#readsInto(rx: Virtqueue, first: Chain): boolean {
		const connection = this.#schedule.first;
		if (this.#resets.length > 0 || connection === undefined) return false;
		const most = connection.readableBytes;
		if (most === 0 || first.writable.totalBytes <= HEADER_BYTES) return false;
		const payload = this.#payload;
		payload.clear();
		const chains = [first];
		for (let chain = first; ; ) {
			payload.append(chain.writable, HEADER_BYTES, Math.min(PAYLOAD_BYTES, most - payload.totalBytes));
			const next = payload.totalBytes < most ? rx.pop() : undefined;
			if (next === undefined) break;
			if (next.writable.totalBytes <= HEADER_BYTES) {
				rx.unpop(next);
				break;
			}
			chains.push(next);
			chain = next;
		}
		this.#schedule.remove(connection);
		const out = this.#out;
		out.address(VMADDR_CID_HOST, connection.hostPort, this.#cid, connection.guestPort);
		let rest = connection.readSeveral(payload);
		let used = 0;
		for (; rest > 0; used++) {
			const chain = chains[used]!;
			const part = Math.min(rest, chain.writable.totalBytes - HEADER_BYTES, PAYLOAD_BYTES);
			rx.push(chain, connection.headed(out, chain.writable, part));
			rest -= part;
		}
		for (const chain of chains.slice(used).reverse()) rx.unpop(chain);
		if (connection.hasPending()) this.#schedule.add(connection);
		return true;
	}

	#packetInto(chain: Chain): number {
		const out = this.#out;
		if (this.#resets.length > 0) {
			const [hostPort, guestPort] = this.#resets.splice(0, 2);
			out.address(VMADDR_CID_HOST, hostPort!, this.#cid, guestPort!);
			out.setOp(VIRTIO_VSOCK_OP_RST, 0, 0);
			out.credit(0, 0);
			return chain.writable.copyFrom(out.bytes);
		}
		const connection = this.#schedule.first!;
		this.#schedule.remove(connection);
		out.address(VMADDR_CID_HOST, connection.hostPort, this.#cid, connection.guestPort);
		const written = connection.fill(out, chain.writable);
		if (connection.hasPending()) this.#schedule.add(connection);
		return written;
	}

	#full(): boolean {
		return this.#table.size + this.#lingering.size >= MAX_CONNECTIONS;
	}

	#add(hostPort: number, guestPort: number, state: "request" | "opening"): Connection {
		const bufAlloc = this.#table.size + this.#lingering.size < MANY ? BUF_ALLOC : BUF_ALLOC_MANY;
		const connection = new Connection({ hostPort, guestPort, state, bufAlloc }, this.#events);
		this.#table.add(connection);
		return connection;
	}

	/** Ends a connection. With `tell` the guest gets a reset. */
	#remove(connection: Connection, tell = false): void {
		if (connection.state === "closed") return;
		if (connection === this.#joining) this.#writeJoined();
		const { hostPort, guestPort } = connection;
		this.#table.remove(connection);
		this.#schedule.remove(connection);
		if (tell) this.#resets.push(hostPort, guestPort);
		const stream = connection.close();
		if (stream !== undefined) this.#linger(stream);
		const request = this.#requests.get(connection);
		if (request === undefined) return;
		this.#settle(connection, request);
		request.answer(undefined);
		if (tell && !this.#receiving) this.#fillRx();
	}

	#settle(connection: Connection, request: Request): void {
		this.#requests.delete(connection);
		clearTimeout(request.timer);
		request.stream.off("close", request.gone);
	}

	/** Lets a stream deliver what the guest sent before it closed. */
	#linger(stream: Duplex): void {
		this.#lingering.add(stream);
		stream.once("finish", () => stream.destroy());
		stream.once("close", () => this.#lingering.delete(stream));
	}
}

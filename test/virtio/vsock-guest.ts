/*
 * A guest's vsock stack for tests: it drives the three queues through a FakeDriver and keeps both credits as Linux
 * does. `raw` sends any packet at all; `heard` is every header that the device sent.
 */
import { virtio_vsock_hdr as hdr } from "../../src/virtio/vsock/packet.ts";
import type { FakeDriver } from "../driver/fake-driver.ts";

export const CID = 3;
export const OP = { REQUEST: 1, RESPONSE: 2, RST: 3, SHUTDOWN: 4, RW: 5, CREDIT_UPDATE: 6, CREDIT_REQUEST: 7 };
const HEADER = 44;
const TX_SLOTS = 8;
const TX_SLOT = HEADER + 64 * 1024;

export interface Heard {
	hostPort: number;
	guestPort: number;
	op: number;
	len: number;
	flags: number;
	bufAlloc: number;
	fwdCnt: number;
	cids: [number, number];
}

export interface PacketFields {
	srcCid?: number;
	dstCid?: number;
	srcPort?: number;
	dstPort?: number;
	len?: number;
	type?: number;
	op?: number;
	flags?: number;
	bufAlloc?: number;
	fwdCnt?: number;
}

export class GuestStream {
	state: "request" | "established" | "reset" = "request";
	received: Buffer[] = [];
	receivedBytes = 0;
	/** Bytes taken by the guest's application; follows `receivedBytes` unless `slow`. */
	consumed = 0;
	slow = false;
	hostShutdown = 0;
	bufAlloc = 64 * 1024;
	outgoing: Buffer[] = [];
	sent = 0;
	peerBufAlloc = 0;
	peerFwdCnt = 0;
	/** Flags of a SHUTDOWN to be sent when `outgoing` is empty. */
	finish = 0;
	announced = 0;
	readonly hostPort: number;
	readonly guestPort: number;

	constructor(hostPort: number, guestPort: number) {
		this.hostPort = hostPort;
		this.guestPort = guestPort;
	}

	get data(): Buffer {
		return Buffer.concat(this.received);
	}
	write(data: Uint8Array | string): void {
		this.outgoing.push(Buffer.from(data));
	}
	credit(): number {
		return this.peerBufAlloc - ((this.sent - this.peerFwdCnt) >>> 0);
	}
}

export class GuestVsock {
	readonly driver: FakeDriver;
	readonly heard: Heard[] = [];
	readonly streams = new Map<string, GuestStream>();
	readonly listening = new Set<number>();
	onAccept: (stream: GuestStream) => void = () => undefined;
	#rxAt = new Map<number, number>();
	#txAt = new Map<number, number>();
	#txFree: number[];
	#nextPort = 50_000;
	readonly #rxBytes: number;

	constructor(driver: FakeDriver, { rxBuffers = 32, rxBytes = HEADER + 4096 } = {}) {
		this.driver = driver;
		this.#rxBytes = rxBytes;
		for (let i = 0; i < rxBuffers; i++) this.#post(driver.ram.alloc(rxBytes));
		driver.queue(0).kick();
		this.#txFree = Array.from({ length: TX_SLOTS }, () => driver.ram.alloc(TX_SLOT));
	}

	connect(hostPort: number): GuestStream {
		const stream = new GuestStream(hostPort, this.#nextPort++);
		this.streams.set(key(hostPort, stream.guestPort), stream);
		this.#send(stream, OP.REQUEST);
		return stream;
	}

	reset(stream: GuestStream): void {
		this.#send(stream, OP.RST);
		stream.state = "reset";
	}

	/** Sends a packet field by field; `chop` says in which descriptors (all in one unless given). */
	raw(fields: PacketFields, payload: Uint8Array = new Uint8Array(0), chop?: number[]): void {
		const packet = Buffer.concat([header(fields, payload.length), payload]);
		this.rawBytes(packet, chop);
	}

	rawBytes(packet: Uint8Array, chop: number[] = [packet.length]): void {
		const queue = this.driver.queue(1);
		const slot = this.#txFree.pop();
		const gpa = slot ?? this.driver.ram.alloc(packet.length);
		this.driver.memory.write(gpa, packet);
		let at = 0;
		const parts = chop.map((length) => {
			const part = { write: false, length, gpa: gpa + at };
			at += length;
			return part;
		});
		const head = queue.add(parts);
		if (slot !== undefined) this.#txAt.set(head, slot);
		queue.kick();
	}

	/** One turn: takes what came, sends what it may. */
	poll(): void {
		const rx = this.driver.queue(0);
		/* All heads first: posting a buffer may reuse the head of a later one. */
		const came = rx.collect().map((used) => ({ used, gpa: this.#rxAt.get(used.head)! }));
		for (const { used, gpa } of came) {
			if (used.written >= HEADER) this.#hear(Buffer.from(used.data.subarray(0, used.written)));
			this.#post(gpa);
		}
		rx.kick();
		for (const used of this.driver.queue(1).collect()) {
			const gpa = this.#txAt.get(used.head);
			if (gpa !== undefined) this.#txFree.push(gpa);
			this.#txAt.delete(used.head);
		}
		for (const stream of this.streams.values()) this.#advance(stream);
	}

	/** Polls until `done`. @throws Error after ten seconds */
	async until(done: () => boolean, what = "the condition"): Promise<void> {
		const end = performance.now() + 10_000;
		while (!done()) {
			this.poll();
			if (performance.now() > end) throw new Error(`${what} did not come true`);
			await new Promise<void>((resolve) => setImmediate(resolve));
		}
	}

	/** Lets everything settle that needs no time of its own. */
	async settle(turns = 20): Promise<void> {
		for (let i = 0; i < turns; i++) {
			this.poll();
			await new Promise<void>((resolve) => setImmediate(resolve));
		}
	}

	ops(): number[] {
		return this.heard.map((h) => h.op);
	}

	#advance(stream: GuestStream): void {
		if (stream.state !== "established") return;
		if (!stream.slow) stream.consumed = stream.receivedBytes;
		while (stream.outgoing.length > 0 && stream.credit() > 0 && this.#txFree.length > 1) {
			const first = stream.outgoing[0]!;
			const part = first.subarray(0, Math.min(first.length, stream.credit(), 64 * 1024));
			if (part.length === first.length) stream.outgoing.shift();
			else stream.outgoing[0] = first.subarray(part.length);
			stream.sent = (stream.sent + part.length) >>> 0;
			this.#send(stream, OP.RW, 0, part);
		}
		if (stream.finish !== 0 && stream.outgoing.length === 0) {
			const flags = stream.finish;
			stream.finish = 0;
			this.#send(stream, OP.SHUTDOWN, flags);
		}
		if (stream.consumed - stream.announced >= stream.bufAlloc / 4) this.#send(stream, OP.CREDIT_UPDATE);
	}

	#send(stream: GuestStream, op: number, flags = 0, payload?: Uint8Array): void {
		stream.announced = stream.consumed;
		const { guestPort: srcPort, hostPort: dstPort, bufAlloc } = stream;
		this.raw({ srcPort, dstPort, op, flags, bufAlloc, fwdCnt: stream.consumed >>> 0 }, payload);
	}

	#post(gpa: number): void {
		const head = this.driver.queue(0).add([{ write: true, length: this.#rxBytes, gpa }]);
		this.#rxAt.set(head, gpa);
	}

	#hear(packet: Buffer): void {
		const heard: Heard = {
			hostPort: packet.readUInt32LE(hdr.src_port),
			guestPort: packet.readUInt32LE(hdr.dst_port),
			op: packet.readUInt16LE(hdr.op),
			len: packet.readUInt32LE(hdr.len),
			flags: packet.readUInt32LE(hdr.flags),
			bufAlloc: packet.readUInt32LE(hdr.buf_alloc),
			fwdCnt: packet.readUInt32LE(hdr.fwd_cnt),
			cids: [Number(packet.readBigUInt64LE(hdr.src_cid)), Number(packet.readBigUInt64LE(hdr.dst_cid))],
		};
		this.heard.push(heard);
		const id = key(heard.hostPort, heard.guestPort);
		let stream = this.streams.get(id);
		if (heard.op === OP.REQUEST) {
			stream = new GuestStream(heard.hostPort, heard.guestPort);
			if (!this.listening.has(heard.guestPort)) {
				this.#send(stream, OP.RST);
				return;
			}
			this.streams.set(id, stream);
			stream.state = "established";
			this.#send(stream, OP.RESPONSE);
			this.onAccept(stream);
		}
		if (stream === undefined) return;
		stream.peerBufAlloc = heard.bufAlloc;
		stream.peerFwdCnt = heard.fwdCnt;
		if (heard.op === OP.RESPONSE) stream.state = "established";
		else if (heard.op === OP.RST) {
			stream.state = "reset";
			this.streams.delete(id);
		} else if (heard.op === OP.SHUTDOWN) stream.hostShutdown |= heard.flags;
		else if (heard.op === OP.CREDIT_REQUEST) this.#send(stream, OP.CREDIT_UPDATE);
		else if (heard.op === OP.RW) {
			stream.received.push(packet.subarray(HEADER, HEADER + heard.len));
			stream.receivedBytes += heard.len;
			const held = stream.receivedBytes - stream.consumed;
			if (held > stream.bufAlloc) throw new Error(`the device overran the guest's credit: ${held} bytes held`);
		}
	}
}

export function header(fields: PacketFields, payloadLength = 0): Buffer {
	const out = Buffer.alloc(HEADER);
	out.writeBigUInt64LE(BigInt(fields.srcCid ?? CID), hdr.src_cid);
	out.writeBigUInt64LE(BigInt(fields.dstCid ?? 2), hdr.dst_cid);
	out.writeUInt32LE(fields.srcPort ?? 1000, hdr.src_port);
	out.writeUInt32LE(fields.dstPort ?? 52, hdr.dst_port);
	out.writeUInt32LE(fields.len ?? payloadLength, hdr.len);
	out.writeUInt16LE(fields.type ?? 1, hdr.type);
	out.writeUInt16LE(fields.op ?? OP.RW, hdr.op);
	out.writeUInt32LE(fields.flags ?? 0, hdr.flags);
	out.writeUInt32LE(fields.bufAlloc ?? 64 * 1024, hdr.buf_alloc);
	out.writeUInt32LE(fields.fwdCnt ?? 0, hdr.fwd_cnt);
	return out;
}

function key(hostPort: number, guestPort: number): string {
	return `${hostPort}:${guestPort}`;
}

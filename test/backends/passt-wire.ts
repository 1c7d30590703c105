/* The guest's end of passt's wire for tests: frames made by hand, as a guest's kernel makes them or never would. */
import type { PasstBackend } from "../../src/backends/passt.ts";
import { userNetwork } from "../../src/backends/passt.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

export const macHex = (text: string) => text.replaceAll(":", "");
export const ipHex = (text: string) => Buffer.from(text.split(".").map(Number)).toString("hex");
export const OWN = ipHex(userNetwork.address);
export const GATEWAY = ipHex(userNetwork.gateway);

export const ARP_QUESTION = `0001080006040001${macHex(userNetwork.mac)}${OWN}000000000000${GATEWAY}`;

function sum16(...parts: Buffer[]): number {
	const data = Buffer.concat(parts);
	let sum = 0;
	for (let i = 0; i < data.length; i += 2) sum += (data[i]! << 8) + (data[i + 1] ?? 0);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return sum ^ 0xffff;
}

export function ethernet(type: string): Buffer {
	return Buffer.from(`${macHex(userNetwork.gatewayMac)}${macHex(userNetwork.mac)}${type}`, "hex");
}

/** An IPv4 frame of the guest. `checksumAt` is where the payload's checksum goes. */
export function ipv4(protocol: number, payload: Buffer, checksumAt: number, to = GATEWAY): Buffer {
	const head = Buffer.from(`450000000000400040000000${OWN}${to}`, "hex");
	head.writeUInt16BE(20 + payload.length, 2);
	head[9] = protocol;
	head.writeUInt16BE(sum16(head), 10);
	const pseudo = Buffer.from(`${OWN}${to}00000000`, "hex");
	pseudo[9] = protocol;
	pseudo.writeUInt16BE(payload.length, 10);
	payload.writeUInt16BE(protocol === 1 ? sum16(payload) : sum16(pseudo, payload), checksumAt);
	return Buffer.concat([ethernet("0800"), head, payload]);
}

/** A UDP datagram of the guest. */
export function udp(fromPort: number, toPort: number, data: Buffer, to = GATEWAY): Buffer {
	const datagram = Buffer.concat([Buffer.alloc(8), data]);
	datagram.writeUInt16BE(fromPort, 0);
	datagram.writeUInt16BE(toPort, 2);
	datagram.writeUInt16BE(datagram.length, 4);
	return ipv4(17, datagram, 6, to);
}

export const FIN = 1;
export const SYN = 2;
export const ACK = 16;
export const PSH = 8;

/** One hand-made TCP connection of the guest. */
export class HandTcp {
	seq = 1000;
	ack = 0;
	received = Buffer.alloc(0);
	readonly #net: Wire;
	readonly #own: number;
	readonly #peer: number;
	readonly #to: string;

	constructor(net: Wire, own: number, peer: number, to = GATEWAY) {
		this.#to = to;
		this.#net = net;
		this.#own = own;
		this.#peer = peer;
	}

	send(flags: number, data: Buffer = Buffer.alloc(0)): void {
		const tcp = Buffer.alloc(20);
		tcp.writeUInt16BE(this.#own, 0);
		tcp.writeUInt16BE(this.#peer, 2);
		tcp.writeUInt32BE(this.seq, 4);
		tcp.writeUInt32BE(this.ack, 8);
		tcp[12] = 5 << 4;
		tcp[13] = flags;
		tcp.writeUInt16BE(65_535, 14);
		this.#net.send(ipv4(6, Buffer.concat([tcp, data]), 16, this.#to));
		this.seq += data.length + (flags & (SYN | FIN) ? 1 : 0);
	}

	/** The next segment of this connection, taken into account. */
	async segment(): Promise<{ flags: number; data: Buffer }> {
		const frame = await this.#net.next(
			(f) => f[23] === 6 && f.readUInt16BE(34) === this.#peer && f.readUInt16BE(36) === this.#own,
		);
		const length = frame.readUInt16BE(16) - 20 - (frame[46]! >> 4) * 4;
		const start = 34 + (frame[46]! >> 4) * 4;
		const data = frame.subarray(start, start + length);
		const flags = frame[47]!;
		this.ack = frame.readUInt32BE(38) + data.length + (flags & (SYN | FIN) ? 1 : 0);
		this.received = Buffer.concat([this.received, data]);
		return { flags, data };
	}
}

/** The guest's end of the wire. */
export class Wire {
	readonly backend: PasstBackend;
	#wake: () => void = () => undefined;

	constructor(backend: PasstBackend) {
		this.backend = backend;
		backend.start({ readable: () => this.#wake(), writable: () => undefined, linkDown: () => undefined });
	}

	send(frame: Buffer): void {
		if (!this.backend.send(segmentsOf(frame, 33))) throw new Error("no room");
	}

	async next(wanted: (frame: Buffer) => boolean): Promise<Buffer> {
		const into = segmentsOf(Buffer.alloc(66_000), 1500);
		const end = performance.now() + 4000;
		const late = setTimeout(() => this.#wake(), 4000);
		try {
			while (performance.now() < end) {
				const length = this.backend.receive(into);
				if (length > 0) {
					const frame = bytesOf(into, length);
					if (wanted(frame)) return frame;
				} else {
					await new Promise<void>((resolve) => {
						this.#wake = resolve;
					});
				}
			}
			throw new Error("no such frame came");
		} finally {
			clearTimeout(late);
		}
	}
}

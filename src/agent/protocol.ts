/*
 * The wire between the host and the guest agent (docs/agent.md; guests/agent/protocol.h says the same in C). Frames
 * over one byte stream, little endian: u32 payload length, u8 type, u8 flags, u16 zero, u32 session, then at most
 * 64 KiB of payload.
 */

/** The versions that this side speaks. HELLO finds the newest one that the agent speaks, too. */
export const PROTOCOL_MIN = 2;
export const PROTOCOL_MAX = 3;
export const HEADER_BYTES = 12;
export const PAYLOAD_MAX = 65536;
/** The host's vsock port that the agent of a microVM connects to. */
export const VSOCK_AGENT_PORT = 1024;
/** Bytes of stdin that the host may send before it gets credit. */
export const STDIN_WINDOW = 131072;
/** Bytes of stdout, and of stderr, that the agent may send before it gets credit. */
export const OUTPUT_WINDOW = 262144;

/** Bytes of a PING, and of the PONG that brings them back. */
export const PING_MAX = 64;
/** Bytes of a FAILED's text. */
export const FAILED_TEXT_MAX = 1024;
/** A number that no session has. A PING with it keeps a stream moving, and its PONG is dropped. */
export const KEEPALIVE_SESSION = 0xffff_ffff;

export const FRAME = {
	HELLO: 1,
	SETUP: 2,
	EXEC: 3,
	DONE: 4,
	STARTED: 5,
	FAILED: 6,
	STDIN: 7,
	STDIN_CLOSE: 8,
	STDOUT: 9,
	STDERR: 10,
	SIGNAL: 11,
	RESIZE: 12,
	EXIT: 13,
	CREDIT: 14,
	PING: 15,
	PONG: 16,
	CLOCK: 17,
	POWEROFF: 18,
	CLOSE: 19,
	REMOVE: 20,
	HOLD: 21,
} as const;

/** EXEC, SETUP: the list goes on in the next frame. */
export const FLAG_MORE = 1;
/** SIGNAL: to the whole process group. */
export const FLAG_GROUP = 1;
/** CLOSE: the process goes on without its client, who gets EXIT with status 0. Brokers take it, and an agent does not. */
export const FLAG_LEAVE = 1;
/** POWEROFF: reset instead. */
export const FLAG_RESET = 1;
/** HOLD: sessions send again. */
export const FLAG_RELEASE = 1;
/** The first version of the protocol with HOLD. */
export const HOLD_VERSION = 3;
/** EXIT of a container's first process: the kernel has killed one in its control group for want of memory. */
export const FLAG_OUT_OF_MEMORY = 1;
/** CREDIT: whose window it is. */
export const CREDIT_STDIN = 0;
export const CREDIT_STDOUT = 1;
export const CREDIT_STDERR = 2;

const HELLO_MAGIC = Buffer.from("tsvmmAGT");
const HELLO_BYTES = 24;
const HELLO_ANSWER_BYTES = 40;
const HELLO_FORGET = 1;

/** One frame; `payload` may be a view into a larger buffer that is not reused. */
export interface Frame {
	type: number;
	flags: number;
	session: number;
	payload: Buffer;
}

/** The agent's description of itself. */
export interface Hello {
	/** Version of the protocol: the one to speak, or the agent's newest when both sides have none in common. */
	version: number;
	pid: number;
	/** The guest's CLOCK_BOOTTIME when the agent started and when it answered, in ms. */
	startMs: number;
	nowMs: number;
}

const NOTHING = Buffer.alloc(0);

/** Header and payload as one buffer. @throws RangeError above 64 KiB */
export function encodeFrame(type: number, flags: number, session: number, payload: Uint8Array = NOTHING): Buffer {
	if (payload.length > PAYLOAD_MAX) throw new RangeError(`a frame of ${payload.length} bytes`);
	const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
	frame.writeUInt32LE(payload.length, 0);
	frame[4] = type;
	frame[5] = flags;
	frame.writeUInt16LE(0, 6);
	frame.writeUInt32LE(session, 8);
	frame.set(payload, HEADER_BYTES);
	return frame;
}

/** The u32 payload of SIGNAL, CREDIT and STARTED. */
export function encodeU32(value: number): Buffer {
	const payload = Buffer.allocUnsafe(4);
	payload.writeUInt32LE(value >>> 0);
	return payload;
}

/** "key=value" strings, each ended by a NUL, cut into payloads. @throws RangeError when one contains a NUL */
export function encodeList(entries: readonly (readonly [key: string, value: string])[]): Buffer[] {
	const parts = entries.map(([key, value]) => {
		if (value.includes("\0")) throw new RangeError(`a NUL byte in ${key}`);
		return `${key}=${value}\0`;
	});
	const all = Buffer.from(parts.join(""));
	const payloads: Buffer[] = [];
	for (let at = 0; at === 0 || at < all.length; at += PAYLOAD_MAX) payloads.push(all.subarray(at, at + PAYLOAD_MAX));
	return payloads;
}

/** The HELLO of a host. `nonce`: 8 bytes that the answer repeats. `forget`: end the sessions of earlier hosts. */
export function encodeHello(nonce: Uint8Array, forget: boolean): Buffer {
	const payload = Buffer.alloc(HELLO_BYTES);
	payload.set(HELLO_MAGIC);
	payload.writeUInt16LE(PROTOCOL_MIN, 8);
	payload.writeUInt16LE(PROTOCOL_MAX, 10);
	payload.writeUInt32LE(forget ? HELLO_FORGET : 0, 12);
	payload.set(nonce, 16);
	return encodeFrame(FRAME.HELLO, 0, 0, payload);
}

/** A host's HELLO as a broker reads it. */
export interface HelloQuestion {
	nonce: Buffer;
	forget: boolean;
	/** Versions that the client speaks. */
	min: number;
	max: number;
}

/** Undefined when it is malformed. */
export function decodeHello(payload: Buffer): HelloQuestion | undefined {
	if (payload.length !== HELLO_BYTES || !payload.subarray(0, 8).equals(HELLO_MAGIC)) return undefined;
	return {
		nonce: payload.subarray(16, 24),
		forget: (payload.readUInt32LE(12) & HELLO_FORGET) !== 0,
		min: payload.readUInt16LE(8),
		max: payload.readUInt16LE(10),
	};
}

/** The answer to a HELLO, for a broker. */
export function encodeHelloAnswer(nonce: Uint8Array, hello: Hello): Buffer {
	const payload = Buffer.alloc(HELLO_ANSWER_BYTES);
	payload.set(HELLO_MAGIC);
	payload.writeUInt32LE(hello.version, 8);
	payload.writeUInt32LE(hello.pid, 12);
	payload.set(nonce, 16);
	payload.writeBigUInt64LE(BigInt(Math.round(hello.startMs * 1e6)), 24);
	payload.writeBigUInt64LE(BigInt(Math.round(hello.nowMs * 1e6)), 32);
	return encodeFrame(FRAME.HELLO, 0, 0, payload);
}

/** The answer to the HELLO with `nonce`, or undefined when this payload is not it. */
export function decodeHelloAnswer(payload: Buffer, nonce: Uint8Array): Hello | undefined {
	if (payload.length !== HELLO_ANSWER_BYTES || !payload.subarray(0, 8).equals(HELLO_MAGIC)) return undefined;
	if (!payload.subarray(16, 24).equals(nonce)) return undefined;
	return {
		version: payload.readUInt32LE(8),
		pid: payload.readUInt32LE(12),
		startMs: Number(payload.readBigUInt64LE(24)) / 1e6,
		nowMs: Number(payload.readBigUInt64LE(32)) / 1e6,
	};
}

/** The first bytes of the answer to the HELLO with `nonce`, to find it behind stale bytes. */
export function helloAnswerStart(): Buffer {
	const header = encodeFrame(FRAME.HELLO, 0, 0, HELLO_MAGIC);
	header.writeUInt32LE(HELLO_ANSWER_BYTES, 0);
	return header;
}

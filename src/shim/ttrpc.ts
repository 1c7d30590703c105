/*
 * ttrpc (containerd/ttrpc, PROTOCOL.md): requests and answers as frames on a unix socket.
 *
 *     | u32 length | u32 stream | u8 type | u8 flags | message        big endian; streams of a client are odd
 */
import { connect as connectSocket, createServer, type Socket } from "node:net";
import { ignore } from "../base/errors.ts";
import { decode, encode, type Message } from "./messages.ts";

const HEADER_BYTES = 10;
const MAX_BYTES = 4 << 20;
const REQUEST = 1;
const RESPONSE = 2;

/** google.rpc.Code, as far as used. */
export const CODE = {
	ok: 0,
	unknown: 2,
	invalidArgument: 3,
	notFound: 5,
	alreadyExists: 6,
	resourceExhausted: 8,
	failedPrecondition: 9,
	unimplemented: 12,
	unavailable: 14,
} as const;

/** What a method has answered in place of a message. */
export class RpcError extends Error {
	readonly code: number;

	constructor(code: number, message: string) {
		super(message);
		this.code = code;
	}
}

/** A method: the request's bytes to those of the answer. */
export type Method = (payload: Uint8Array) => Promise<Uint8Array>;

interface RequestMessage {
	service: string;
	method: string;
	payload: Uint8Array;
}

interface ResponseMessage {
	status?: { code: number; message: string } | null;
	payload: Uint8Array;
}

/** Calls `frame` for each frame that comes, without a message when that is longer than allowed. */
function readFrames(socket: Socket, frame: (stream: number, type: number, message: Buffer | undefined) => void): void {
	let waiting: Buffer = Buffer.alloc(0);
	/** What still comes of a message that is too long. */
	let skipped = 0;
	socket.on("data", (data: Buffer) => {
		const chunk = data.subarray(skipped);
		skipped = Math.max(0, skipped - data.length);
		waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk]);
		while (waiting.length >= HEADER_BYTES) {
			const end = HEADER_BYTES + waiting.readUInt32BE(0);
			const isTooLong = end > HEADER_BYTES + MAX_BYTES;
			if (waiting.length < end && !isTooLong) return;
			const message = isTooLong ? undefined : waiting.subarray(HEADER_BYTES, end);
			const [stream, type] = [waiting.readUInt32BE(4), waiting.readUInt8(8)];
			skipped = Math.max(0, end - waiting.length);
			waiting = waiting.subarray(end);
			frame(stream, type, message);
		}
	});
	socket.on("error", ignore);
}

function writeFrame(socket: Socket, stream: number, type: number, message: Buffer): void {
	const header = Buffer.alloc(HEADER_BYTES);
	header.writeUInt32BE(message.length, 0);
	header.writeUInt32BE(stream, 4);
	header.writeUInt8(type, 8);
	socket.write(Buffer.concat([header, message]));
}

/**
 * Serves methods, by "service/method", at a unix socket.
 *
 * @returns what ends that, and all connections
 * @throws what listen(2) says
 */
export async function serve(path: string, methods: Readonly<Record<string, Method>>): Promise<() => void> {
	const sockets = new Set<Socket>();
	const server = createServer((socket) => {
		sockets.add(socket);
		socket.on("close", () => sockets.delete(socket));
		readFrames(socket, (stream, type, message) => {
			if (type !== REQUEST) return;
			void answer(methods, message).then((response) => {
				if (!socket.destroyed) writeFrame(socket, stream, RESPONSE, encode("Response", response));
			});
		});
	});
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(path, resolve);
	});
	return () => {
		server.close();
		for (const socket of sockets) socket.destroySoon();
	};
}

async function answer(methods: Readonly<Record<string, Method>>, message: Uint8Array | undefined): Promise<Message> {
	try {
		if (message === undefined) throw new RpcError(CODE.resourceExhausted, `a message has at most ${MAX_BYTES} bytes`);
		const { service, method, payload } = decode<RequestMessage>("Request", message);
		const run = methods[`${service}/${method}`];
		if (run === undefined) throw new RpcError(CODE.unimplemented, `${service}.${method} is not implemented`);
		return { status: { code: CODE.ok }, payload: await run(payload) };
	} catch (error) {
		const code = error instanceof RpcError ? error.code : CODE.unknown;
		return { status: { code, message: (error as Error).message } };
	}
}

/** A client of one service's methods. */
export class TtrpcClient {
	readonly #socket: Socket;
	readonly #calls = new Map<number, { resolve(payload: Uint8Array): void; reject(error: Error): void }>();
	#next = 1;

	constructor(path: string) {
		this.#socket = connectSocket(path);
		readFrames(this.#socket, (stream, type, message) => {
			const call = this.#calls.get(stream);
			if (type !== RESPONSE || call === undefined) return;
			this.#calls.delete(stream);
			try {
				if (message === undefined) throw new RpcError(CODE.resourceExhausted, "the answer is too long");
				const { status, payload } = decode<ResponseMessage>("Response", message);
				if (status && status.code !== CODE.ok) call.reject(new RpcError(status.code, status.message));
				else call.resolve(payload);
			} catch (error) {
				call.reject(error as Error);
			}
		});
		this.#socket.on("close", () => {
			for (const call of this.#calls.values()) call.reject(new RpcError(CODE.unavailable, "the connection was closed"));
			this.#calls.clear();
		});
	}

	/** @throws RpcError what the other side has answered */
	call(service: string, method: string, payload: Uint8Array): Promise<Uint8Array> {
		if (this.#socket.destroyed) throw new RpcError(CODE.unavailable, "the connection was closed");
		const stream = this.#next;
		this.#next += 2;
		return new Promise((resolve, reject) => {
			this.#calls.set(stream, { resolve, reject });
			writeFrame(this.#socket, stream, REQUEST, encode("Request", { service, method, payload }));
		});
	}

	close(): void {
		this.#socket.destroy();
	}
}

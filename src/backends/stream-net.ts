/*
 * A network behind a unix stream socket: a switch of ours (switch/), or QEMU's -netdev stream with server=on. Frames
 * pass as frame-stream.ts describes. When the other side goes, the guest's link goes down.
 */
import { connect, type Socket } from "node:net";
import type { Enter } from "../base/enter.ts";
import { explain, HostError } from "../base/errors.ts";
import type { Segments } from "../base/segments.ts";
import type { NetBackend, NetEvents, NetOffloads } from "./contract.ts";
import { FrameStream, STREAM_MTU } from "./frame-stream.ts";

export interface StreamNetOptions {
	/** The way into the machine that the network belongs to. */
	enter?: Enter | undefined;
	/** Aborts the wait, with the signal's reason. */
	signal?: AbortSignal | undefined;
}

export class StreamNet implements NetBackend {
	readonly offloads: NetOffloads = { vnetHeader: false, csum: false, tso: false, guestCsum: false, guestTso: false };
	readonly mtu = STREAM_MTU;
	readonly #stream: FrameStream;

	private constructor(stream: FrameStream) {
		this.#stream = stream;
	}

	/** Connects to the socket at `path`. @throws HostError ERR_NET_STREAM */
	static async connect(path: string, { enter, signal }: StreamNetOptions = {}): Promise<StreamNet> {
		signal?.throwIfAborted();
		const socket = await connected(path);
		/* The socket must not keep this process alive. */
		socket.unref();
		return new StreamNet(new FrameStream(socket, { name: "network", enter }));
	}

	start(events: NetEvents): void {
		this.#stream.start({
			readable: () => events.readable(),
			writable: () => events.writable(),
			lost: () => events.linkDown(),
		});
	}

	setGuestOffloads(): void {
		/* None are offered. */
	}

	send(frame: Segments): boolean {
		return this.#stream.send(frame);
	}

	receive(into: Segments): number {
		return this.#stream.receive(into);
	}

	async close(): Promise<void> {
		this.#stream.close();
	}
}

/** A unix socket connects at once, or not at all. */
function connected(path: string): Promise<Socket> {
	return new Promise((resolve, reject) => {
		const socket = connect(path);
		const fail = (cause: Error) => {
			reject(new HostError("ERR_NET_STREAM", `Cannot connect to the network at ${path}: ${explain(cause)}`, { cause }));
		};
		socket.once("error", fail);
		socket.once("connect", () => {
			socket.off("error", fail);
			resolve(socket);
		});
	});
}

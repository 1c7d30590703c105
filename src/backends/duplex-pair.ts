/*
 * A pair of connected Duplexes. Bytes written to one are read from the other, with backpressure, and each half ends
 * separately. It connects two parts of one process that both expect a stream, such as a vsock device and the client of
 * the guest agent.
 */
import { Duplex } from "node:stream";

class End extends Duplex {
	/** Set once, right after construction. */
	peer!: End;
	/** The write that waits until the other end wants more. */
	#taken: (() => void) | undefined;

	constructor() {
		super({ allowHalfOpen: true, emitClose: true, autoDestroy: true });
	}

	override _read(): void {
		this.peer.#release();
	}

	override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		if (chunk.length === 0) {
			process.nextTick(done);
			return;
		}
		this.#taken = done;
		this.peer.push(chunk);
	}

	override _final(done: () => void): void {
		this.peer.once("end", done);
		this.peer.push(null);
	}

	override _destroy(error: Error | null, done: (error: Error | null) => void): void {
		const { peer } = this;
		const orderly = this.readableEnded && this.writableFinished;
		if (!orderly) process.nextTick(() => peer.destroy());
		done(error);
	}

	#release(): void {
		const taken = this.#taken;
		this.#taken = undefined;
		if (taken !== undefined) process.nextTick(taken);
	}
}

/** Makes both ends. Destroying one before it has ended in order destroys the other. */
export function duplexPair(): [Duplex, Duplex] {
	const one = new End();
	const other = new End();
	one.peer = other;
	other.peer = one;
	return [one, other];
}

/*
 * Cuts a byte stream into frames. A frame may span chunks; only then its bytes are copied.
 */
import { protocolError } from "./exchange.ts";
import { FRAME, type Frame, HEADER_BYTES, helloAnswerStart, PAYLOAD_MAX } from "./protocol.ts";

export class FrameSplitter {
	#chunks: Buffer[] = [];
	#length = 0;
	#astray: boolean;

	/** @param astray skip all bytes before the first answer to a HELLO, because the connection was taken over */
	constructor(astray = false) {
		this.#astray = astray;
	}

	/**
	 * Takes the next bytes and returns the frames that they complete.
	 *
	 * @throws TsvmmError ERR_AGENT_PROTOCOL when the bytes are no frames
	 */
	push(chunk: Buffer): Frame[] {
		this.#chunks.push(chunk);
		this.#length += chunk.length;
		const frames: Frame[] = [];
		if (this.#astray) this.#find();
		while (!this.#astray && this.#length >= HEADER_BYTES) {
			const header = this.#peek(HEADER_BYTES);
			const length = header.readUInt32LE(0);
			const type = header[4]!;
			if (length > PAYLOAD_MAX || header.readUInt16LE(6) !== 0 || type < FRAME.HELLO || type > FRAME.HOLD) {
				throw protocolError(`${header.toString("hex", 0, HEADER_BYTES)} is not the header of a frame`);
			}
			if (this.#length < HEADER_BYTES + length) break;
			const frame = this.#take(HEADER_BYTES + length);
			frames.push({ type, flags: frame[5]!, session: frame.readUInt32LE(8), payload: frame.subarray(HEADER_BYTES) });
		}
		return frames;
	}

	/** Skips to the start of an answer to a HELLO, if there is one. The reader checks its nonce. */
	#find(): void {
		const start = helloAnswerStart();
		const all = Buffer.concat(this.#chunks);
		const at = all.indexOf(start);
		const rest = at >= 0 ? all.subarray(at) : all.subarray(Math.max(0, all.length - start.length + 1));
		this.#chunks = [rest];
		this.#length = rest.length;
		this.#astray = at < 0;
	}

	/** The first `length` bytes in one buffer, for which it merges chunks. */
	#peek(length: number): Buffer {
		if (this.#chunks[0]!.length < length) {
			let have = 0;
			let count = 0;
			while (have < length) have += this.#chunks[count++]!.length;
			this.#chunks.splice(0, count, Buffer.concat(this.#chunks.slice(0, count)));
		}
		return this.#chunks[0]!;
	}

	#take(length: number): Buffer {
		const first = this.#peek(length);
		if (first.length === length) this.#chunks.shift();
		else this.#chunks[0] = first.subarray(length);
		this.#length -= length;
		return first.subarray(0, length);
	}
}

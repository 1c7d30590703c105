/* How a FrameStream finds frames in the chunks of a socket, wherever these are cut. */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { FrameStream, MAX_FRAME_BYTES, MIN_FRAME_BYTES } from "../../src/backends/frame-stream.ts";

/** A socket that gives the chunks that it is told to. */
class Chunks extends Duplex {
	override _read(): void {
		/* Chunks come by `give`. */
	}
	override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		done();
	}
	give(chunk: Buffer): void {
		this.emit("data", chunk);
	}
}

function started() {
	const socket = new Chunks();
	const frames: Buffer[] = [];
	const stream = new FrameStream(socket as unknown as Socket, { name: "test" });
	stream.start({
		readable: () => {
			for (let frame = stream.take(); frame !== undefined; frame = stream.take()) frames.push(frame);
		},
		writable: () => undefined,
		lost: () => undefined,
	});
	return { socket, frames };
}

/** Frames of these lengths as they are on the wire. */
function wire(lengths: readonly number[]) {
	const frames = lengths.map((length, i) => Buffer.alloc(length, `${i} of `));
	const parts = frames.flatMap((frame) => {
		const prefix = Buffer.alloc(4);
		prefix.writeUInt32BE(frame.length);
		return [prefix, frame];
	});
	return { frames, bytes: Buffer.concat(parts) };
}

test("FrameStream finds the same frames wherever two chunks meet", () => {
	const { frames, bytes } = wire([MIN_FRAME_BYTES, 60, 15, MIN_FRAME_BYTES]);
	for (let cut = 0; cut <= bytes.length; cut++) {
		const { socket, frames: got } = started();
		socket.give(bytes.subarray(0, cut));
		socket.give(bytes.subarray(cut));
		expect(got, `cut at ${cut}`).toEqual(frames);
	}
});

test("FrameStream puts frames together of any number of pieces, the largest ones, too", () => {
	const { frames, bytes } = wire([MAX_FRAME_BYTES, 20, MAX_FRAME_BYTES, 1514, 1514]);
	for (const step of [1, 3, 1000, 65_536]) {
		const { socket, frames: got } = started();
		for (let at = 0; at < bytes.length; at += step) socket.give(bytes.subarray(at, at + step));
		expect(got.length).toBe(frames.length);
		expect(
			got.every((frame, i) => frame.equals(frames[i]!)),
			`pieces of ${step}`,
		).toBe(true);
	}
});

test("FrameStream copies no frame but the one that is in two chunks", () => {
	const { bytes } = wire([1000, 1000, 1000]);
	const { socket, frames } = started();
	const chunks = [Buffer.from(bytes.subarray(0, 1500)), Buffer.from(bytes.subarray(1500))];
	for (const chunk of chunks) {
		socket.give(chunk);
	}
	const inChunk = (frame: Buffer, chunk: Buffer) =>
		frame.buffer === chunk.buffer &&
		frame.byteOffset >= chunk.byteOffset &&
		frame.byteOffset + frame.length <= chunk.byteOffset + chunk.length;
	expect(frames.map((frame) => chunks.findIndex((chunk) => inChunk(frame, chunk)))).toEqual([0, -1, 1]);
});

test.each([0, MIN_FRAME_BYTES - 1, MAX_FRAME_BYTES + 1, 0xffff_ffff])(
	"FrameStream ends a stream with a frame of %i bytes, also when its length comes in pieces",
	(length) => {
		const { socket, frames } = started();
		const prefix = Buffer.alloc(4);
		prefix.writeUInt32BE(length);
		socket.give(prefix.subarray(0, 3));
		expect(socket.destroyed).toBe(false);
		socket.give(prefix.subarray(3));
		expect([socket.destroyed, frames.length]).toEqual([true, 0]);
	},
);

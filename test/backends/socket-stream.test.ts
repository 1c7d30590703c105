import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SocketStream } from "../../src/backends/socket-stream.ts";
import { enterDirectly } from "../../src/base/enter.ts";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { Segments } from "../../src/base/segments.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

let directory: string;
let server: Server;
let stream: SocketStream;
let peer: Socket;

beforeEach(async () => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-socket-"));
	const path = join(directory, "s");
	const taken = new Promise<SocketStream>((resolve) => {
		server = createServer({ allowHalfOpen: true }, (socket) =>
			resolve(SocketStream.takeOver(socket, { enter: enterDirectly, name: "test" })),
		);
	});
	await new Promise<void>((resolve) => server.listen(path, resolve));
	peer = connect({ path, allowHalfOpen: true });
	stream = await taken;
	for (const end of [stream, peer]) end.on("error", () => undefined);
});
afterEach(async () => {
	stream.destroy();
	peer.destroy();
	await new Promise<void>((resolve) => server.close(() => resolve()));
	rmSync(directory, { recursive: true });
});

/** All that a side gets until its end. */
function received(side: Socket | SocketStream): Promise<Buffer> {
	const chunks: Buffer[] = [];
	side.on("data", (chunk: Buffer) => chunks.push(chunk));
	return new Promise((resolve) => side.once("end", () => resolve(Buffer.concat(chunks))));
}

describe("SocketStream", () => {
	test("is a stream like others, each half with its own end", async () => {
		const data = randomBytes(1 << 20);
		const [here, there] = [received(stream), received(peer)];
		peer.end(data);
		expect((await here).equals(data)).toBe(true);
		stream.end(data);
		expect((await there).equals(data)).toBe(true);
		await expect.poll(() => stream.destroyed).toBe(true);
	});

	test("writeNow fills the socket, and write waits behind it, in order", async () => {
		const data = randomBytes(4 << 20);
		let at = 0;
		for (let sent = 1; sent > 0; at += sent) sent = stream.writeNow(segmentsOf(data.subarray(at, at + 65_536), 1000));
		expect(at).toBeGreaterThan(0);
		expect(at).toBeLessThan(data.length);
		stream.end(data.subarray(at));
		/* Not past what waits. */
		expect(stream.writeNow(segmentsOf(Buffer.from("too early")))).toBe(0);
		expect((await received(peer)).equals(data)).toBe(true);
	});

	test("readNow takes what has come, and nothing is read ahead", async () => {
		let calls = 0;
		stream.onReadable(() => calls++);
		stream.resume();
		const data = randomBytes(300_000);
		peer.end(data);
		await expect.poll(() => stream.mayRead).toBe(true);
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect([calls, peer.writableLength > 0]).toEqual([1, true]);
		const ended = new Promise((resolve) => stream.once("end", resolve));
		const parts: Buffer[] = [];
		for (let bytes = 0; bytes < data.length; ) {
			const into = segmentsOf(Buffer.alloc(50_000), 4096);
			const got = stream.readNow(into);
			parts.push(bytesOf(into, got));
			bytes += got;
			if (!stream.mayRead) await expect.poll(() => stream.mayRead).toBe(true);
		}
		expect(Buffer.concat(parts).equals(data)).toBe(true);
		expect(stream.readNow(segmentsOf(Buffer.alloc(1)))).toBe(0);
		await ended;
	});

	test("bytes go straight between the socket and memory with a host address", async () => {
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 20 }]);
		const memory = new GuestMemory(ram.regions);
		const list = new Segments();
		list.add(memory.windows[0]!, 4096, 1000);
		list.add(memory.windows[0]!, 65_536, 3000);
		const data = randomBytes(4000);
		stream.onReadable(() => undefined);
		peer.write(data);
		await expect.poll(() => stream.mayRead && stream.readNow(list)).toBe(4000);
		expect(bytesOf(list, 4000).equals(data)).toBe(true);
		expect(stream.writeNow(list)).toBe(4000);
		stream.end();
		expect((await received(peer)).equals(data)).toBe(true);
		await ram.close();
	});

	test("goes back to plain reading, also of what came meanwhile", async () => {
		stream.onReadable(() => undefined);
		peer.end("later");
		await expect.poll(() => stream.mayRead).toBe(true);
		stream.onReadable(undefined);
		expect(String(await received(stream))).toBe("later");
	});

	test("is destroyed when the other side has gone and it writes", async () => {
		stream.resume();
		peer.destroy();
		await expect.poll(() => stream.readableEnded).toBe(true);
		expect(stream.writeNow(segmentsOf(Buffer.alloc(10)))).toBe(0);
		stream.write("x");
		await expect.poll(() => stream.destroyed).toBe(true);
		expect([stream.writeNow(segmentsOf(Buffer.alloc(10))), stream.readNow(segmentsOf(Buffer.alloc(10)))]).toEqual([
			0, 0,
		]);
	});
});

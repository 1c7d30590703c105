/* What many small packets cost while the host's stream takes nothing. */
import { Duplex } from "node:stream";
import { afterEach, expect, test } from "vitest";
import type { VsockBackend } from "../../src/backends/contract.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, GuestVsock, OP } from "./vsock-guest.ts";

const SEND = 2;
const devices: VsockDevice[] = [];
afterEach(async () => {
	for (const device of devices.splice(0)) await device.close();
});

/** Takes one write, and the next only when it is told to. */
class Busy extends Duplex {
	/** What was handed to it, write by write. */
	readonly writes: Buffer[] = [];
	ended = false;
	#done: (() => void) | undefined;

	constructor() {
		super({ allowHalfOpen: true, highWaterMark: 1 });
	}
	override write(chunk: Buffer, ...rest: unknown[]): boolean {
		this.writes.push(chunk);
		return super.write(chunk, ...(rest as []));
	}
	override _read(): void {
		/* It never has anything to say. */
	}
	override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		this.#done = done;
	}
	override _final(done: () => void): void {
		this.ended = true;
		done();
	}
	/** Has taken what it was given. */
	accept(): void {
		const done = this.#done;
		this.#done = undefined;
		done?.();
	}
}

async function joined() {
	const stream = new Busy();
	const backend: VsockBackend = { start: () => undefined, open: async () => stream, close: async () => undefined };
	const device = new VsockDevice(CID, backend);
	devices.push(device);
	const guest = new GuestVsock(new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start());
	const own = guest.connect(7);
	await guest.until(() => own.state === "established", "the connection");
	const send = async (text: string) => {
		guest.raw({ srcPort: own.guestPort, dstPort: own.hostPort, op: OP.RW }, Buffer.from(text));
		await guest.settle(1);
	};
	return { stream, guest, own, send };
}

test("Connection puts small packets together while a write is under way", async () => {
	const { stream, guest, send } = await joined();
	const text = "the quick brown fox jumps over the lazy dog".repeat(6);
	for (const letter of text) await send(letter);
	expect(stream.writes.map(String)).toEqual([text[0]]);
	stream.accept();
	await guest.until(() => stream.writes.length > 1, "the next write");
	expect(stream.writes.map(String)).toEqual([text[0], text.slice(1)]);
});

test("Connection keeps packets of every size in order across chunks", async () => {
	const { stream, guest, send } = await joined();
	const sizes = [1, 4000, 300, 9000, 1, 4095, 4096, 4097, 2];
	const parts = sizes.map((size, i) => String.fromCharCode(97 + i).repeat(size));
	for (const part of parts) await send(part);
	for (let i = 0; i < 20; i++) {
		stream.accept();
		await guest.settle(1);
	}
	expect(Buffer.concat(stream.writes).toString()).toBe(parts.join(""));
});

test("Connection hands over what waits before it ends the stream", async () => {
	const { stream, guest, own, send } = await joined();
	await send("a");
	await send("b");
	await send("c");
	own.finish = SEND;
	await guest.settle(4);
	for (let i = 0; i < 4; i++) {
		stream.accept();
		await guest.settle(1);
	}
	await guest.until(() => stream.ended, "the end");
	expect(stream.writes.map(String)).toEqual(["a", "bc"]);
});

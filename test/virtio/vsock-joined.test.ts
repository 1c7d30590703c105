/* How payloads of packets that follow each other go to the host's socket: by one write, in order, before the chains go back. */
import { Duplex } from "node:stream";
import { afterEach, expect, test } from "vitest";
import type { DirectStream, VsockBackend } from "../../src/backends/contract.ts";
import type { Segments } from "../../src/base/segments.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, GuestVsock, header, OP, type PacketFields } from "./vsock-guest.ts";

const SHUTDOWN_BOTH = 3;
const devices: VsockDevice[] = [];
afterEach(async () => {
	for (const device of devices.splice(0)) await device.close();
});

/** A host's socket that has room for some bytes at once, and tells what it gets by which call. */
class Direct extends Duplex implements DirectStream {
	readonly mayRead = false;
	/** "now TEXT" or "later TEXT", in order. */
	readonly calls: string[];
	readonly #name: string;
	room = Number.POSITIVE_INFINITY;
	/** What to look at when a write comes. */
	onWrite: () => void = () => undefined;

	constructor(name: string, calls: string[]) {
		super({ allowHalfOpen: true });
		this.#name = name;
		this.calls = calls;
	}
	writeNow(from: Segments): number {
		this.onWrite();
		const bytes = Buffer.alloc(Math.min(this.room, from.totalBytes));
		from.copyTo(bytes);
		this.room -= bytes.length;
		this.calls.push(`${this.#name} now ${bytes}`);
		return bytes.length;
	}
	onReadable(): void {
		/* It never has anything to say. */
	}
	readNow(): number {
		return 0;
	}
	override _read(): void {
		/* As above. */
	}
	override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		this.calls.push(`${this.#name} later ${chunk}`);
		done();
	}
	override _final(done: () => void): void {
		this.calls.push(`${this.#name} end`);
		done();
	}
}

/** A guest with two streams, and a way to offer several packets by one notification. */
async function started() {
	const calls: string[] = [];
	const hosts = [new Direct("a", calls), new Direct("b", calls)] as const;
	const backend: VsockBackend = {
		start: () => undefined,
		open: async (port) => hosts[port - 1],
		close: async () => undefined,
	};
	const device = new VsockDevice(CID, backend);
	devices.push(device);
	const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
	const guest = new GuestVsock(driver);
	const [a, b] = [guest.connect(1), guest.connect(2)];
	await guest.until(() => a.state === "established" && b.state === "established", "both connections");
	const tx = driver.queue(1);
	const offer = (packets: readonly [typeof a, string, PacketFields?][]) => {
		for (const [{ guestPort, hostPort }, text, fields] of packets) {
			const head = header({ srcPort: guestPort, dstPort: hostPort, op: OP.RW, ...fields }, text.length);
			tx.add([readable(Buffer.concat([head, Buffer.from(text)]))]);
		}
		tx.kick();
	};
	return { a, b, hosts, calls, guest, tx, offer };
}

test("VsockDevice writes the payloads of neighbours at once, before it gives their chains back", async () => {
	const { a, hosts, calls, tx, offer } = await started();
	const back: number[] = [];
	hosts[0].onWrite = () => back.push(tx.collect().length);
	tx.collect();
	offer([
		[a, "one "],
		[a, "two "],
		[a, "three"],
	]);
	expect(calls).toEqual(["a now one two three"]);
	expect([...back, tx.collect().length]).toEqual([0, 3]);
});

test("VsockDevice keeps the order of streams, and of what is no payload", async () => {
	const { a, b, calls, offer } = await started();
	offer([
		[a, "1"],
		[a, "2"],
		[b, "3"],
		[a, "4"],
		[a, "", { op: OP.CREDIT_REQUEST }],
		[a, "5"],
		[a, "6"],
		[a, "", { op: OP.SHUTDOWN, flags: SHUTDOWN_BOTH }],
	]);
	expect(calls).toEqual(["a now 12", "b now 3", "a now 4", "a now 56", "a end"]);
});

test("VsockDevice copies only what the host's socket has no room for", async () => {
	const { a, hosts, calls, guest, offer } = await started();
	hosts[0].room = 5;
	offer([
		[a, "abc"],
		[a, "def"],
		[a, "ghi"],
	]);
	await guest.until(() => calls.length === 2, "the rest");
	expect(calls).toEqual(["a now abcde", "a later fghi"]);
});

test("VsockDevice still delivers what came before a packet that ends the connection", async () => {
	const { a, calls, guest, offer } = await started();
	offer([
		[a, "last words"],
		[a, "", { op: OP.RESPONSE }],
		[a, "too late"],
	]);
	expect(calls).toEqual(["a now last words"]);
	await guest.until(() => guest.ops().includes(OP.RST), "the reset");
});

test("VsockDevice writes a stream in many pieces by no more of them at once than writev takes", async () => {
	const { a, calls, tx } = await started();
	const letters = [..."abcdefghij"].map((letter) => letter.repeat(300));
	for (const text of letters) {
		const head = header({ srcPort: a.guestPort, dstPort: a.hostPort, op: OP.RW }, text.length);
		tx.add([readable(head), ...[...text].map((byte) => readable(Buffer.from(byte)))], true);
	}
	tx.kick();
	expect(calls.map((call) => call.slice("a now ".length)).join("")).toBe(letters.join(""));
	expect(calls.map((call) => call.length - "a now ".length)).toEqual([600, 600, 600, 600, 600]);
});

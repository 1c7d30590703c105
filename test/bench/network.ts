/*
 * What a frame and a vsock packet cost in TypeScript: the devices' part alone, with real rings in ordinary memory and
 * backends that keep nothing. The driver's part is not measured: the same descriptors are made available again by
 * setting avail.idx. Run it alone with `npx tsx test/bench/network.ts`.
 */
import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import type { NetBackend, NetEvents, NetOffloads, VsockBackend, VsockGuest } from "../../src/backends/contract.ts";
import { MacAddress } from "../../src/base/mac.ts";
import type { Segments } from "../../src/base/segments.ts";
import { NetDevice } from "../../src/virtio/net.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import type { FakeQueue, Part } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { FULL } from "../virtio/fake-net.ts";
import { CID, header, OP } from "../virtio/vsock-guest.ts";

const SIZE = 256;
const BATCH = 64;
const ROUNDS = 4000;
const VSOCK_HEADER = 44;

/** Takes frames and forgets them; gives as many as it is told, of bytes that nobody has written. */
class NullNet implements NetBackend {
	readonly offloads: NetOffloads = FULL;
	readonly #frameBytes: number;
	/** Frames taken and given. */
	frames = 0;
	#left = 0;
	#events: NetEvents | undefined;

	constructor(frameBytes: number) {
		this.#frameBytes = frameBytes;
	}
	start(events: NetEvents): void {
		this.#events = events;
	}
	setGuestOffloads(): void {
		/* Nothing depends on them. */
	}
	send(): boolean {
		this.frames++;
		return true;
	}
	receive(into: Segments): number {
		if (this.#left === 0) return 0;
		this.#left--;
		this.frames++;
		return Math.min(this.#frameBytes, into.totalBytes);
	}
	async close(): Promise<void> {
		/* Nothing is open. */
	}
	arrive(frames: number): void {
		this.#left = frames;
		this.#events!.readable();
	}
}

/** Fills a queue with SIZE chains and gives what makes the next `count` of them available again. */
function refill(queue: FakeQueue, driver: FakeDriver, part: (index: number) => Part): (count: number) => void {
	for (let i = 0; i < SIZE; i++) queue.add([part(i)]);
	let idx = 0;
	return (count) => {
		idx = (idx + count) & 0xffff;
		queue.rawAvailIdx(idx);
		driver.memory.setU16(queue.avail + 4 + 2 * SIZE, 0); /* used_event: an interrupt now and then */
	};
}

/** Nanoseconds for one frame that the guest sends, in batches. */
function sendNs(frameBytes: number): number {
	const net = new NullNet(frameBytes);
	const driver = new FakeDriver(new NetDevice(net, MacAddress.derive("bench")), {
		ram: new FakeRam([[0, 64 << 20]]),
	}).start();
	const gpa = driver.ram.alloc(frameBytes + 12);
	const offer = refill(driver.queue(1), driver, () => ({ write: false, length: frameBytes + 12, gpa }));
	const round = () => {
		offer(BATCH);
		driver.transport.notify(1);
	};
	return nanoseconds(round, net) / BATCH;
}

/** Nanoseconds for one frame that the guest receives, in batches. */
function receiveNs(frameBytes: number): number {
	const net = new NullNet(frameBytes + 12);
	const driver = new FakeDriver(new NetDevice(net, MacAddress.derive("bench")), {
		ram: new FakeRam([[0, 64 << 20]]),
		/* Without TSO the device wants no 64 KiB of buffers in advance. */
		without: (1n << 7n) | (1n << 8n),
	}).start();
	const gpa = driver.ram.alloc(2048);
	const offer = refill(driver.queue(0), driver, () => ({ write: true, length: 1536 + 12, gpa }));
	const round = () => {
		offer(BATCH);
		/* Begins a turn: without one the queue gives 1024 chains and no more. */
		driver.transport.notify(0);
		net.arrive(BATCH);
	};
	return nanoseconds(round, net) / BATCH;
}

function nanoseconds(round: () => void, net: NullNet): number {
	for (let i = 0; i < ROUNDS; i++) round();
	const before = net.frames;
	const start = process.hrtime.bigint();
	for (let i = 0; i < ROUNDS; i++) round();
	const elapsed = Number(process.hrtime.bigint() - start);
	if (net.frames - before !== ROUNDS * BATCH) throw new Error(`${net.frames - before} frames moved`);
	return elapsed / ROUNDS;
}

/** A host that swallows what the guest sends. */
class NullVsock implements VsockBackend {
	bytes = 0;
	start(_guest: VsockGuest): void {
		/* It never begins. */
	}
	async open(): Promise<Duplex> {
		return new Duplex({
			read: () => undefined,
			write: (chunk: Buffer, _encoding, done) => {
				this.bytes += chunk.length;
				done();
			},
		});
	}
	async close(): Promise<void> {
		/* Nothing is open. */
	}
}

/** MiB per second that a guest sends in packets of `payload` bytes over one stream, copied to the host's stream. */
async function vsockMiB(payload: number): Promise<number> {
	const host = new NullVsock();
	const driver = new FakeDriver(new VsockDevice(CID, host), { ram: new FakeRam([[0, 64 << 20]]) }).start();
	const rx = driver.ram.alloc(4096);
	const offerRx = refill(driver.queue(0), driver, () => ({ write: true, length: 4096, gpa: rx }));
	const packet = driver.ram.alloc(VSOCK_HEADER + payload);
	const request = driver.ram.alloc(VSOCK_HEADER);
	driver.memory.write(request, header({ op: OP.REQUEST }));
	driver.memory.write(packet, header({ op: OP.RW }, payload));
	const part = (index: number): Part =>
		index === 0
			? { write: false, length: VSOCK_HEADER, gpa: request }
			: { write: false, length: VSOCK_HEADER + payload, gpa: packet };
	const offer = refill(driver.queue(1), driver, part);
	offerRx(SIZE / 2);
	offer(1);
	driver.transport.notify(1);
	await turn();
	await turn();
	/* As many as fit the credit of 256 KiB; the request's own slot in the ring is asked for once only. */
	const batch = Math.min(BATCH, (256 * 1024) / payload);
	driver.memory.write(driver.queue(1).desc, descriptor(packet, VSOCK_HEADER + payload));
	const start = performance.now();
	let sent = 0;
	while (sent < 512 << 20) {
		offer(batch);
		driver.transport.notify(1);
		offerRx(1);
		driver.transport.notify(0);
		sent += batch * payload;
		await turn();
	}
	const seconds = (performance.now() - start) / 1000;
	if (host.bytes !== sent) throw new Error(`${host.bytes} of ${sent} bytes came`);
	return sent / 2 ** 20 / seconds;
}

function descriptor(gpa: number, length: number): Uint8Array {
	const bytes = Buffer.alloc(16);
	bytes.writeBigUInt64LE(BigInt(gpa));
	bytes.writeUInt32LE(length, 8);
	return bytes;
}

for (const bytes of [60, 1514, 65_549]) console.log(`virtio-net sends ${bytes} bytes: ${sendNs(bytes).toFixed(0)} ns`);
for (const bytes of [60, 1514]) console.log(`virtio-net receives ${bytes} bytes: ${receiveNs(bytes).toFixed(0)} ns`);
for (const payload of [4096, 16_384, 65_536])
	console.log(`virtio-vsock, packets of ${payload} bytes: ${(await vsockMiB(payload)).toFixed(0)} MiB/s`);

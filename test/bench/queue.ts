/*
 * What a chain costs in TypeScript: pop, push and flush of Virtqueue alone, and the device's part of a 4 KiB read of
 * virtio-blk, with real rings in ordinary memory. The driver's part is not measured: the same descriptors are made
 * available again by setting avail.idx. Run it alone with `npx tsx test/bench/queue.ts`.
 */
import type { BlockBackend, BlockResult } from "../../src/backends/contract.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { Virtqueue } from "../../src/virtio/queue.ts";
import { readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { FakeRam } from "../driver/fake-ram.ts";

const SIZE = 256;
const CHAINS = 80; /* of three descriptors each */
const ROUNDS = 20_000;

/** A disk that answers without doing anything. */
class NullDisk implements BlockBackend {
	readonly sizeBytes = 1 << 20;
	readonly readOnly = false;
	#complete: (token: number, result: BlockResult) => void = () => undefined;
	readonly #tokens = new Uint16Array(1024);
	#count = 0;

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}
	#later = (token: number): void => {
		this.#tokens[this.#count++] = token;
	};
	read = this.#later;
	write = this.#later;
	flush = this.#later;
	discard = this.#later;
	writeZeroes = this.#later;
	submit(): void {
		for (let i = 0; i < this.#count; i++) this.#complete(this.#tokens[i]!, "ok");
		this.#count = 0;
	}
	async close(): Promise<void> {
		this.#count = 0;
	}
}

export interface QueueFigures {
	/** Nanoseconds for one chain of three descriptors, when `batch` are popped, pushed and flushed together. */
	chainNs: Record<number, number>;
	/** Nanoseconds for one 4 KiB read from notify to the interrupt, in batches of 64, the copy of the data not included. */
	readNs: number;
	/** Bytes of heap that one chain leaves behind. */
	heapBytes: number;
}

/** A queue of `CHAINS` chains of readable, writable, writable. */
function chains(eventIdx: boolean) {
	const ram = new FakeRam([[0, 1 << 20]]);
	const { memory } = ram;
	const desc = ram.alloc(16 * SIZE);
	const avail = ram.alloc(6 + 2 * SIZE);
	const used = ram.alloc(6 + 8 * SIZE);
	const buffer = ram.alloc(4096, 4096);
	for (let i = 0; i < 3 * CHAINS; i++) {
		memory.setU64(desc + 16 * i, buffer);
		memory.setU32(desc + 16 * i + 8, [16, 4096, 1][i % 3]!);
		memory.setU16(desc + 16 * i + 12, [1, 3, 2][i % 3]!);
		memory.setU16(desc + 16 * i + 14, i + 1);
	}
	for (let i = 0; i < SIZE; i++) memory.setU16(avail + 4 + 2 * i, 3 * (i % 64));
	const events = { interrupt: () => undefined, broken: (why: string) => console.error(why) };
	const queue = new Virtqueue(memory, { size: SIZE, desc, avail, used, eventIdx, indirect: true }, events);
	let idx = 0;
	return {
		queue,
		offer(count: number) {
			idx = (idx + count) & 0xffff;
			memory.setU16(avail + 2, idx);
		},
	};
}

function run(batch: number, rounds: number, { queue, offer }: ReturnType<typeof chains>): void {
	for (let round = 0; round < rounds; round++) {
		offer(batch);
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.push(chain, 4097);
		queue.flush();
	}
}

function nanoseconds(work: () => void, per: number): number {
	const start = process.hrtime.bigint();
	work();
	return Number(process.hrtime.bigint() - start) / per;
}

/** 4 KiB reads in batches of 64 through transport and device; only the notification is timed. */
function readNs(): number {
	const driver = new FakeDriver(new BlockDevice(new NullDisk()), {
		ram: new FakeRam([[0, 64 << 20]]),
	}).start();
	const queue = driver.queue(0);
	for (let i = 0; i < 64; i++) queue.add(readChain(8 * i, 4096));
	queue.rawKick();
	queue.collect();
	let idx = 64;
	const round = () => {
		/* The ring still holds the heads of the first 64; they come round every 256 entries. */
		for (let i = 0; i < 64; i++) driver.memory.setU16(queue.avail + 4 + 2 * ((idx + i) & 255), heads[i]!);
		idx += 64;
		queue.rawAvailIdx(idx);
		const start = process.hrtime.bigint();
		driver.transport.notify(0);
		return Number(process.hrtime.bigint() - start);
	};
	const heads = Array.from({ length: 64 }, (_, i) => driver.memory.u16(queue.avail + 4 + 2 * i));
	for (let i = 0; i < 500; i++) round();
	let total = 0;
	for (let i = 0; i < 2000; i++) total += round();
	return total / (2000 * 64);
}

export function measureQueue(): QueueFigures {
	const chainNs: Record<number, number> = {};
	for (const batch of [1, 8, 64]) {
		const made = chains(true);
		run(batch, ROUNDS, made);
		const rounds = Math.ceil((ROUNDS * 8) / batch);
		chainNs[batch] = nanoseconds(() => run(batch, rounds, made), rounds * batch);
	}
	const made = chains(true);
	run(64, 2000, made);
	globalThis.gc?.();
	const before = process.memoryUsage().heapUsed;
	run(64, 2000, made);
	const heapBytes = Math.max(0, process.memoryUsage().heapUsed - before) / (2000 * 64);
	return { chainNs, readNs: readNs(), heapBytes };
}

if (process.argv[1] === import.meta.filename) {
	const { chainNs, readNs: read, heapBytes } = measureQueue();
	for (const [batch, ns] of Object.entries(chainNs))
		console.log(`pop, push, flush, batch of ${batch}: ${ns.toFixed(0)} ns`);
	console.log(`virtio-blk 4 KiB read, without the copy: ${read.toFixed(0)} ns`);
	console.log(`heap left behind per chain: ${heapBytes.toFixed(2)} bytes`);
}

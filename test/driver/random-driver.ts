/*
 * A random driver that a seed repeats. It makes mostly well-formed chains with any contents, and now and then a bad
 * descriptor, a random register write or a reset. It remembers which bytes it has offered for writing, so that it can
 * find changes of others.
 */
import type { VirtioDevice } from "../../src/virtio/device.ts";
import {
	descBytes,
	usedBytes,
	VIRTQ_DESC_F_INDIRECT,
	VIRTQ_DESC_F_NEXT,
	VIRTQ_DESC_F_WRITE,
} from "../../src/virtio/ring.ts";
import { DRIVER_OK, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "./fake-driver.ts";
import { type FakeQueue, type RawDescriptor, rawDescriptor } from "./fake-queue.ts";
import { FakeRam, type FakeRegion } from "./fake-ram.ts";
import type { Random } from "./random.ts";

/** Where buffers are; the rings have a region of their own. */
const BUFFERS: readonly FakeRegion[] = [
	[0, 32 << 10],
	[32 << 10, 32 << 10],
	[0x1_0000_0000, 32 << 10],
];
const RINGS: FakeRegion = [0x2_0000_0000, 256 << 10];
/** Most buffers begin at a multiple of this, which is where `fill` puts beginnings of requests. */
const GRAIN = 64;
const MOVES = 80;
/** Registers that a wild write may hit: not those that would move the rings to where the buffers are. */
const REGISTERS = [0x14, 0x20, 0x24, 0x34, 0x44, 0x50, 0x60, 0x64, 0xfc, 0x100, 0x108, 0x1fc];

export class RandomDriver {
	readonly #random: Random;
	readonly #driver: FakeDriver;
	readonly #offered: [gpa: number, length: number][] = [];
	/** Next descriptor of each queue to build a chain from. */
	readonly #next = new Map<FakeQueue, number>();
	readonly #fill: ((random: Random, bytes: Uint8Array) => void) | undefined;

	/** @param fill puts something at the beginning of a buffer, so that requests get further than their refusal */
	constructor(device: VirtioDevice, random: Random, fill?: (random: Random, bytes: Uint8Array) => void) {
		const options = { eventIdx: random.chance(50), indirect: random.chance(80), queueSize: 1 << (1 + random.below(5)) };
		const ram = new FakeRam([...BUFFERS, RINGS]);
		this.#random = random;
		this.#fill = fill;
		this.#driver = new FakeDriver(device, { ...options, ram, ringRegion: BUFFERS.length });
	}

	/** Plays one round and resets the device; addresses of all bytes that changed though they were not offered. */
	async play(): Promise<number[]> {
		const driver = this.#driver.start();
		this.#scribble();
		const before = driver.ram.snapshot();
		const queues = driver.device.queueSizes.map((_, i) => driver.queue(i));
		for (const queue of queues) this.#offered.push([queue.used, usedBytes(queue.size)]);
		for (let move = 0; move < MOVES && (driver.status & DRIVER_OK) !== 0; move++) {
			await this.#move(this.#random.pick(queues));
		}
		driver.reset();
		await turn();
		/* What is in the region of the rings was written by this driver, but for the used rings. */
		const changes = driver.ram.changes(before, RINGS[0]);
		return changes.filter((at) => !this.#offered.some(([gpa, length]) => at >= gpa && at < gpa + length));
	}

	#scribble(): void {
		for (const [start, size] of BUFFERS) {
			for (let gpa = start; gpa < start + size; gpa += GRAIN) {
				for (let i = 0; i < GRAIN; i += 4) this.#driver.memory.setU32(gpa + i, this.#random.bits());
				if (this.#random.chance(80)) this.#fill?.(this.#random, this.#driver.memory.bytes(gpa, GRAIN));
			}
		}
	}

	async #move(queue: FakeQueue): Promise<void> {
		const random = this.#random;
		if (random.chance(80)) {
			this.#chain(queue);
			if (random.chance(70)) queue.rawKick();
		} else if (random.chance(50)) await turn();
		else if (random.chance(70)) this.#register();
		else if (random.chance(5)) queue.rawAvailIdx(random.bits());
		else queue.rawKick();
	}

	/** Readable buffers, then writable ones; now and then one descriptor is not what it should be. */
	#chain(queue: FakeQueue): void {
		const random = this.#random;
		const readable = random.below(4);
		const parts = Math.min(queue.size, Math.max(1, readable + random.below(4)));
		const indirect = (this.#driver.options.indirect ?? true) && random.chance(40);
		const first = this.#next.get(queue) ?? 0;
		const at = (i: number) => (indirect ? i : (first + i) % queue.size);
		const bad = random.chance(2) ? random.below(parts) : -1;
		const table = indirect ? this.#driver.ram.alloc(descBytes(parts), 16, BUFFERS.length) : queue.desc;
		for (let i = 0; i < parts; i++) {
			const flags = (i < readable ? 0 : VIRTQ_DESC_F_WRITE) | (i + 1 < parts ? VIRTQ_DESC_F_NEXT : 0);
			const good = { ...this.#buffer(i === 0), flags, next: i + 1 < parts ? at(i + 1) : random.bits() & 0xffff };
			const descriptor = i === bad ? this.#spoil(good) : good;
			if ((descriptor.flags & VIRTQ_DESC_F_WRITE) !== 0) this.#offered.push([descriptor.gpa, descriptor.length]);
			rawDescriptor(this.#driver.memory, table, at(i), descriptor);
		}
		if (indirect) {
			queue.rawDescriptor(first, { gpa: table, length: descBytes(parts), flags: VIRTQ_DESC_F_INDIRECT, next: 0 });
		}
		this.#next.set(queue, (first + (indirect ? 1 : parts)) % queue.size);
		queue.rawAvailable(random.chance(1) ? random.bits() & 0xffff : first);
	}

	#buffer(isFirst: boolean): { gpa: number; length: number } {
		const random = this.#random;
		const [start, size] = random.pick(BUFFERS);
		const gpa = start + (random.below(size - 8192) & (random.chance(90) ? ~(GRAIN - 1) : ~0));
		const usual = isFirst ? [16, 16, 16, 44, 48, 32, 12] : [1, 20, 512, 512, 1024, 4096, 16, 32];
		return { gpa, length: random.chance(5) ? random.below(9000) : random.pick(usual) };
	}

	#spoil(descriptor: RawDescriptor): RawDescriptor {
		const random = this.#random;
		switch (random.below(4)) {
			case 0:
				return { ...descriptor, gpa: random.bits() * 2 ** random.below(33) };
			case 1:
				return { ...descriptor, length: random.bits() };
			case 2:
				return { ...descriptor, flags: random.chance(80) ? random.below(8) : random.bits() & 0xffff };
			default:
				return { ...descriptor, next: random.below(64) };
		}
	}

	#register(): void {
		const random = this.#random;
		const size = random.pick([1, 2, 4]);
		void this.#driver.transport.write(random.pick(REGISTERS), size, random.bits() >>> (32 - 8 * size));
		this.#driver.transport.read(random.below(0x200), size);
		if (random.chance(10)) this.#driver.write(VIRTIO_MMIO.Status, random.pick([0, random.bits()]));
	}
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

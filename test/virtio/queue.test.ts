import { describe, expect, test } from "vitest";
import { type Chain, type QueueLayout, Virtqueue } from "../../src/virtio/queue.ts";
import { FakeRam, type FakeRegion, SPLIT } from "../driver/fake-ram.ts";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** A queue with nothing between it and the test; `events` are what it told its transport. */
function bare({
	size = 8,
	eventIdx = false,
	indirect = true,
	regions = undefined as readonly FakeRegion[] | undefined,
}) {
	const ram = new FakeRam(regions);
	const { memory } = ram;
	const layout: QueueLayout = {
		size,
		desc: ram.alloc(16 * size, 16),
		avail: ram.alloc(6 + 2 * size, 2),
		used: ram.alloc(6 + 8 * size, 4),
		eventIdx,
		indirect,
	};
	const events: string[] = [];
	const queue = new Virtqueue(memory, layout, {
		interrupt: () => events.push("interrupt"),
		broken: (why) => events.push(why),
	});
	const { desc, avail, used } = layout;
	let idx = 0;
	return {
		ram,
		memory,
		layout,
		events,
		queue,
		/** Interrupts since the last call. */
		interrupts: () => events.splice(0).length,
		descriptor(index: number, gpa: number, length: number, flags = 0, next = 0, table = desc) {
			memory.setU64(table + 16 * index, gpa);
			memory.setU32(table + 16 * index + 8, length);
			memory.setU16(table + 16 * index + 12, flags);
			memory.setU16(table + 16 * index + 14, next);
		},
		offer(...heads: number[]) {
			for (const head of heads) memory.setU16(avail + 4 + 2 * (idx++ % size), head);
			memory.setU16(avail + 2, idx & 0xffff);
		},
		setUsedEvent: (value: number) => memory.setU16(avail + 4 + 2 * size, value & 0xffff),
		availEvent: () => memory.u16(used + 4 + 8 * size),
		usedFlags: () => memory.u16(used),
		usedIdx: () => memory.u16(used + 2),
		usedEntry: (i: number) => [memory.u32(used + 4 + 8 * i), memory.u32(used + 8 + 8 * i)],
		setAvailFlags: (flags: number) => memory.setU16(avail, flags),
	};
}

/** The segments of a chain as plain lists. */
function shape(chain: Chain | undefined) {
	const list = ({ count, lengths }: Chain["readable"]) => lengths.slice(0, count);
	return chain && { head: chain.head, readable: list(chain.readable), writable: list(chain.writable) };
}

describe("Virtqueue.validateLayout", () => {
	const { memory, layout } = bare({});
	const cases: [string, Partial<QueueLayout>, RegExp | undefined][] = [
		["nothing about a good layout", {}, undefined],
		["size 0", { size: 0 }, /size 0/],
		["size 3", { size: 3 }, /size 3/],
		["size 2048", { size: 2048 }, /size 2048/],
		["a descriptor table that is not 16-byte aligned", { desc: layout.desc + 8 }, /descriptor table .* aligned/],
		["an available ring at an odd address", { avail: layout.avail + 1 }, /available ring .* aligned/],
		["a used ring that is not 4-byte aligned", { used: layout.used + 2 }, /used ring .* aligned/],
		["a table that ends beyond RAM", { desc: (1 << 20) - 112 }, /descriptor table .* not in RAM/],
		["an available ring outside RAM", { avail: 0x8000_0000 }, /available ring .* not in RAM/],
		["a used ring at the end of the address space", { used: 2 ** 64 - 4096 }, /used ring .* not in RAM/],
	];
	test.each(cases)("%s", (_what, change, fault) => {
		const answer = Virtqueue.validateLayout(memory, { ...layout, ...change });
		if (fault === undefined) expect(answer).toBeUndefined();
		else expect(answer).toMatch(fault);
	});
});

describe("Virtqueue.pop", () => {
	test("takes chains in the order of the available ring, each with its segments", () => {
		const q = bare({});
		q.descriptor(5, 0x8000, 16, NEXT, 2);
		q.descriptor(2, 0x9000, 512, NEXT | WRITE, 7);
		q.descriptor(7, 0xa000, 1, WRITE);
		q.descriptor(0, 0xb000, 32);
		q.offer(5, 0);
		expect(shape(q.queue.pop())).toEqual({ head: 5, readable: [16], writable: [512, 1] });
		expect(shape(q.queue.pop())).toEqual({ head: 0, readable: [32], writable: [] });
		expect(q.queue.pop()).toBeUndefined();
	});

	test("follows an indirect table, also behind direct descriptors, and longer than the queue", () => {
		const q = bare({});
		const table = q.ram.alloc(16 * 20);
		for (let i = 0; i < 20; i++)
			q.descriptor(i, 0x8000 + i, 1, i < 19 ? NEXT | (i > 9 ? WRITE : 0) : WRITE, i + 1, table);
		q.descriptor(0, 0x7000, 3, NEXT, 1);
		q.descriptor(1, table, 320, INDIRECT);
		q.offer(0);
		expect(shape(q.queue.pop())).toEqual({ head: 0, readable: [3, ...Array(10).fill(1)], writable: Array(10).fill(1) });
	});

	test("cuts a buffer where it crosses two regions, and skips empty ones", () => {
		const q = bare({ regions: SPLIT });
		q.descriptor(0, (256 << 10) - 100, 300, NEXT, 1);
		q.descriptor(1, 0x5000, 0, NEXT, 2);
		q.descriptor(2, 0x1_0000_0000, 8, WRITE);
		q.offer(0);
		expect(shape(q.queue.pop())).toEqual({ head: 0, readable: [100, 200], writable: [8] });
	});

	test("keeps a snapshot: what the driver rewrites afterwards changes nothing", () => {
		const q = bare({});
		q.descriptor(0, 0x8000, 4);
		q.memory.setU32(0x8000, 0x11223344);
		q.offer(0);
		const chain = q.queue.pop()!;
		q.descriptor(0, 0xffff_0000, 0xffff_ffff, NEXT | INDIRECT, 9);
		const bytes = new Uint8Array(8);
		expect(chain.readable.copyTo(bytes)).toBe(4);
		expect([...bytes.subarray(0, 4)]).toEqual([0x44, 0x33, 0x22, 0x11]);
	});

	test("breaks the queue at a chain of more than 4 GiB, however it is put together", () => {
		const q = bare({ size: 1024, regions: [[0, 8 << 20]] });
		for (let i = 0; i < 1024; i++) q.descriptor(i, 0, 8 << 20, i < 1023 ? NEXT | WRITE : WRITE, i + 1);
		q.offer(0);
		expect(q.queue.pop()).toBeUndefined();
		expect(q.events).toEqual([expect.stringContaining("longer than")]);
	});

	test("refuses an indirect table that was not negotiated, and gives nothing from then on", () => {
		const q = bare({ indirect: false });
		q.descriptor(0, q.ram.alloc(16), 16, INDIRECT);
		q.descriptor(1, 0x8000, 16);
		q.offer(0, 1);
		expect(q.queue.pop()).toBeUndefined();
		expect(q.queue.pop()).toBeUndefined();
		expect(q.events).toHaveLength(1);
	});

	test("allocates nothing: a head gives the same chain again", () => {
		const q = bare({});
		q.descriptor(3, 0x8000, 4);
		q.offer(3);
		const first = q.queue.pop()!;
		q.queue.push(first, 0);
		q.offer(3);
		expect(q.queue.pop()).toBe(first);
	});
});

describe("Virtqueue.push and flush", () => {
	test("publish used entries once per batch, and interrupt once", () => {
		const q = bare({});
		for (let i = 0; i < 4; i++) q.descriptor(i, 0x8000, 64, WRITE);
		q.offer(0, 1, 2, 3);
		for (let chain = q.queue.pop(); chain; chain = q.queue.pop()) q.queue.push(chain, chain.head * 10);
		expect(q.usedIdx()).toBe(0);
		q.queue.flush();
		expect(q.usedIdx()).toBe(4);
		expect([0, 1, 2, 3].map(q.usedEntry)).toEqual([
			[0, 0],
			[1, 10],
			[2, 20],
			[3, 30],
		]);
		expect(q.interrupts()).toBe(1);
		q.queue.flush();
		expect(q.interrupts()).toBe(0);
	});

	test("ignore a chain that is pushed twice, that belongs to another queue, or comes after kill", () => {
		const q = bare({});
		const other = bare({});
		for (const each of [q, other]) {
			each.descriptor(0, 0x8000, 4);
			each.descriptor(1, 0x8000, 4);
			each.offer(0, 1);
		}
		const chain = q.queue.pop()!;
		const late = q.queue.pop()!;
		q.queue.push(chain, 0);
		q.queue.push(chain, 0);
		q.queue.push(other.queue.pop()!, 0);
		q.queue.flush();
		expect(q.usedIdx()).toBe(1);
		q.queue.kill();
		q.queue.push(late, 0);
		q.queue.flush();
		expect(q.usedIdx()).toBe(1);
		expect(q.interrupts()).toBe(1);
		expect(q.queue.pop()).toBeUndefined();
	});

	test("without EVENT_IDX obey NO_INTERRUPT, and set NO_NOTIFY while the queue is being emptied", () => {
		const q = bare({});
		q.descriptor(0, 0x8000, 4);
		expect(q.queue.pop()).toBeUndefined();
		expect(q.usedFlags()).toBe(0);
		q.setAvailFlags(1);
		q.offer(0);
		const chain = q.queue.pop()!;
		expect(q.usedFlags()).toBe(1);
		q.queue.push(chain, 0);
		q.queue.flush();
		expect(q.interrupts()).toBe(0);
		expect(q.queue.pop()).toBeUndefined();
		expect(q.usedFlags()).toBe(0);
	});

	test("with EVENT_IDX interrupt exactly when used_event is passed, over the wrap at 65536", () => {
		const q = bare({ eventIdx: true });
		for (let i = 0; i < 8; i++) q.descriptor(i, 0x8000, 4);
		const use = (count: number) => {
			q.offer(...Array.from({ length: count }, (_, i) => i));
			for (let chain = q.queue.pop(); chain; chain = q.queue.pop()) q.queue.push(chain, 0);
			q.queue.flush();
			return q.interrupts();
		};
		let done = 0;
		const step = (count: number, event: number) => {
			q.setUsedEvent(event);
			done += count;
			return use(count);
		};
		expect(step(1, 0)).toBe(1);
		expect(step(4, 4)).toBe(1); /* used.idx goes from 1 to 5: entry 4 is the last one */
		expect(step(4, 9)).toBe(0); /* to 9: entry 9 is the next one */
		expect(step(1, 9)).toBe(1);
		while (done < 65_530) step(4, done - 1);
		expect(step(4, 65_533)).toBe(1);
		expect(step(4, 1)).toBe(1); /* from 65534 to 2: entry 1 is the last one */
		expect(step(4, 6)).toBe(0);
	});

	test("with EVENT_IDX re-arm avail_event on the empty ring only", () => {
		const q = bare({ eventIdx: true });
		q.descriptor(0, 0x8000, 4);
		q.descriptor(1, 0x8000, 4);
		q.offer(0, 1);
		q.queue.pop();
		q.queue.pop();
		expect(q.availEvent()).toBe(0);
		expect(q.queue.pop()).toBeUndefined();
		expect(q.availEvent()).toBe(2);
		expect(q.usedFlags()).toBe(0);
	});

	test("a chain that arrives while the empty ring is re-armed is taken", () => {
		const q = bare({ eventIdx: true });
		q.descriptor(0, 0x8000, 4);
		/* As if another vCPU offered it between the two looks at avail.idx. */
		const { store } = Atomics;
		Atomics.store = ((array: Uint16Array, index: number, value: number) => {
			const result = store(array, index, value);
			q.offer(0);
			return result;
		}) as typeof Atomics.store;
		try {
			expect(q.queue.pop()?.head).toBe(0);
		} finally {
			Atomics.store = store;
		}
	});
});

describe("Virtqueue.unpop", () => {
	test("Virtqueue.unpop gives the last chains back, which are popped again in their order", () => {
		const q = bare({});
		for (let i = 0; i < 4; i++) q.descriptor(i, 0x8000, 16 + i);
		q.offer(3, 2, 1, 0);
		const chains = [q.queue.pop(), q.queue.pop(), q.queue.pop()];
		expect(q.queue.inFlight).toBe(3);
		q.queue.unpop(chains[2]!);
		q.queue.unpop(chains[1]!);
		/* A second time it is not in flight any more. */
		q.queue.unpop(chains[1]!);
		expect([q.queue.inFlight, q.queue.position]).toEqual([1, { nextAvail: 1, nextUsed: 0 }]);
		expect([q.queue.pop(), q.queue.pop(), q.queue.pop()].map((chain) => chain?.head)).toEqual([2, 1, 0]);
		expect(q.events).toEqual([]);
	});

	test("Virtqueue.unpop breaks the queue when the driver has overwritten the entry", () => {
		const q = bare({});
		q.descriptor(3, 0x8000, 16);
		q.offer(3);
		const chain = q.queue.pop()!;
		q.memory.setU16(q.layout.avail + 4, 5);
		q.queue.unpop(chain);
		expect(q.events).toEqual(["head 3 was overwritten before it was used"]);
		expect(q.queue.pop()).toBe(undefined);
	});
});

describe("Virtqueue.unpopAll", () => {
	const popped = (count: number) => {
		const q = bare({});
		for (let i = 0; i < count; i++) q.descriptor(i, 0x8000, 16);
		q.offer(...Array.from({ length: count }, (_, i) => count - 1 - i));
		return { q, chains: Array.from({ length: count }, () => q.queue.pop()!) };
	};

	test("Virtqueue.unpopAll gives all chains back, for another device to pop them in their order", () => {
		const { q } = popped(4);
		q.queue.unpopAll();
		expect([q.queue.inFlight, q.queue.position.nextAvail]).toEqual([0, 0]);
		expect([0, 1, 2, 3].map(() => q.queue.pop()?.head)).toEqual([3, 2, 1, 0]);
	});

	test("Virtqueue.unpopAll stops at a chain that came back, and leaves what is older in flight", () => {
		const { q, chains } = popped(4);
		q.queue.push(chains[1]!, 0);
		q.queue.unpopAll();
		expect([q.queue.inFlight, q.queue.position.nextAvail]).toEqual([1, 2]);
		expect(q.events).toEqual([]);
	});

	test("Virtqueue.unpopAll ends when the driver has overwritten the ring, and on an empty or dead queue", () => {
		const { q } = popped(3);
		for (let i = 0; i < 3; i++) q.memory.setU16(q.layout.avail + 4 + 2 * i, i === 1 ? 0xffff : 1);
		q.queue.unpopAll();
		expect(q.queue.inFlight).toBe(2);
		q.queue.kill();
		q.queue.unpopAll();
		bare({}).queue.unpopAll();
		expect(q.events).toEqual([]);
	});
});

test("Virtqueue.hold keeps pop from giving chains while push works on; a dead queue stays dead after release", () => {
	const q = bare({});
	for (let i = 0; i < 3; i++) q.descriptor(i, 0x8000, 16);
	q.offer(0, 1);
	const chain = q.queue.pop()!;
	q.queue.hold();
	expect(q.queue.pop()).toBe(undefined);
	q.queue.push(chain, 0);
	q.queue.flush();
	expect(q.usedIdx()).toBe(1);
	q.queue.release();
	expect(q.queue.pop()?.head).toBe(1);
	q.queue.hold();
	q.queue.kill();
	q.queue.release();
	expect(q.queue.pop()).toBe(undefined);
});

test("Virtqueue goes on at a saved position, over the wrap of its indices", () => {
	const q = bare({ size: 4 });
	q.descriptor(0, 0x8000, 16, WRITE);
	q.memory.setU16(q.layout.avail + 2, 0);
	q.memory.setU16(q.layout.avail + 4 + 2 * 3, 0);
	const events = { interrupt: () => undefined, broken: (why: string) => q.events.push(why) };
	const queue = new Virtqueue(q.memory, q.layout, events, {
		position: { nextAvail: 0xffff, nextUsed: 0xffff },
	});
	const chain = queue.pop()!;
	queue.push(chain, 7);
	queue.flush();
	expect([q.usedIdx(), q.usedEntry(3), queue.position]).toEqual([0, [0, 7], { nextAvail: 0, nextUsed: 0 }]);
	expect(q.events).toEqual([]);
});

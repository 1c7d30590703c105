/*
 * The check of lab 6: the program exports `Queue`, the device's side of a virtqueue. A driver puts chains on it, good ones
 * first, then those of a guest that wants to harm.
 */

import { layoutAt, type Part, type QueueLayout, RingDriver } from "../../workbench/ring-driver.ts";
import type { Attempt } from "../attempt.ts";
import type { Lab } from "../lab.ts";
import { count, hex, type Report } from "../report.ts";

/** What `pop` gives. */
interface Chain {
	readonly head: number;
	readonly parts: readonly Part[];
}
/** What the program exports. */
interface Queue {
	pop(): Chain | undefined;
	push(head: number, written: number): void;
	interruptWanted(): boolean;
}
type QueueClass = new (memory: DataView, layout: QueueLayout) => Queue;

const RAM_BYTES = 0x10000;
const SIZE = 8;
const USED = layoutAt(0x1000, SIZE).used;

export const virtqueueLab: Lab = {
	number: 6,
	name: "virtqueue",
	title: "a virtqueue",
	needsKvm: false,
	async check(attempt) {
		const type = await attempt.exported<QueueClass>("Queue", "class");
		await attempt.call("Queue", () => {
			checkPop(new Bench(attempt, type));
			checkPush(new Bench(attempt, type));
			checkOrder(new Bench(attempt, type));
			checkInterrupts(new Bench(attempt, type));
			checkWrap(new Bench(attempt, type));
			for (const evil of EVIL) checkEvil(new Bench(attempt, type), evil);
		});
	},
};

/** Guest memory that notes in which order the used ring is written. */
class WatchedMemory extends DataView<ArrayBuffer> {
	readonly writes: number[] = [];
	override setUint16(offset: number, value: number, little?: boolean): void {
		this.writes.push(offset);
		super.setUint16(offset, value, little);
	}
	override setUint32(offset: number, value: number, little?: boolean): void {
		this.writes.push(offset);
		super.setUint32(offset, value, little);
	}
}

class Bench {
	readonly report: Report;
	readonly memory = new WatchedMemory(new ArrayBuffer(RAM_BYTES));
	readonly driver = new RingDriver(this.memory, layoutAt(0x1000, SIZE));
	readonly queue: Queue;

	constructor({ report }: Attempt, type: QueueClass) {
		this.report = report;
		this.queue = new type(this.memory, this.driver.layout);
	}
}

const describe = (part: Part | undefined): string =>
	part === undefined
		? "nothing"
		: `${count(part.length, "byte")} at ${hex(part.address)}, ${part.writable ? "for the device to write" : "for the device to read"}`;

const REQUEST: readonly Part[] = [
	{ address: 0x8000, length: 16, writable: false },
	{ address: 0x9000, length: 512, writable: true },
	{ address: 0xa000, length: 1, writable: true },
];

function checkPop({ report, driver, queue }: Bench): void {
	report.doing("pop on an empty queue");
	const nothing = queue.pop();
	report.must(
		nothing === undefined,
		"pop on an empty queue gives undefined",
		"pop on an empty queue gives a chain: avail.idx is 0, as many as you have taken",
		"Compare your own count of taken chains with avail.idx",
	);
	driver.chain([5, 2, 7], REQUEST);
	report.doing("pop of a chain of three descriptors, 5, 2 and 7");
	const chain = queue.pop();
	report.must(
		chain?.head === 5,
		"pop gives the chain whose head is in the available ring",
		`pop gives ${chain === undefined ? "undefined" : `head ${chain.head}`}: the driver has put head 5 into the available ring`,
		"Read the head, a u16, at avail + 4 + 2 * (count % size)",
	);
	for (const [i, part] of REQUEST.entries()) {
		report.must(
			describe(chain?.parts?.[i]) === describe(part),
			`part ${i + 1} of 3: ${describe(part)}`,
			`part ${i + 1} of 3 is ${describe(chain?.parts?.[i])}; ${describe(part)} was expected`,
			i === 0
				? "A descriptor has 16 bytes: address u64, length u32, flags u16, next u16, all little-endian"
				: "Follow next as long as flags has bit 0 (NEXT); bit 1 (WRITE) is for the device to write",
		);
	}
	report.must(
		chain?.parts.length === 3 && queue.pop() === undefined,
		"then the queue is empty again",
		`the chain has ${chain?.parts.length} parts, and pop gives it once more or has more parts than 3`,
		"Count each chain that you have taken; the last descriptor has no NEXT flag",
	);
}

function checkPush({ report, driver, queue, memory }: Bench): void {
	driver.chain([5, 2, 7], REQUEST);
	report.doing("pop and push of one chain");
	queue.pop();
	memory.writes.length = 0;
	queue.push(5, 513);
	const { id, written } = driver.usedEntry(0);
	report.must(
		id === 5 && written === 513,
		"push writes the used element: head 5, 513 bytes",
		`the first used element is head ${id}, ${count(written, "byte")}; head 5, 513 bytes was expected`,
		"It is at used + 4 + 8 * (count % size): id u32, length u32",
	);
	report.must(
		driver.usedIdx === 1,
		"push moves used.idx on to 1",
		`used.idx (at used + 2) is ${driver.usedIdx} after one push: the driver does not see the element`,
		"Add one to used.idx, a u16, for each push",
	);
	const order = memory.writes.map((offset) => (offset === USED + 2 ? "idx" : offset >= USED + 4 ? "element" : "other"));
	report.expect(
		order.lastIndexOf("element") < order.indexOf("idx"),
		"the element is written before used.idx",
		"used.idx is written before the element: a driver on another processor reads an element that is not there yet",
		"Write the element, and then the index that publishes it",
	);
}

function checkOrder({ report, driver, queue }: Bench): void {
	for (const head of [0, 1, 2]) driver.chain([head], [{ address: 0x8000 + 16 * head, length: 16, writable: false }]);
	report.doing("three chains, pushed in another order");
	const heads = [queue.pop(), queue.pop(), queue.pop()].map((chain) => chain?.head);
	for (const head of [2, 0, 1]) queue.push(head, 0);
	const used = driver.collect().map(({ id }) => id);
	report.expect(
		heads.join() === "0,1,2" && used.join() === "2,0,1",
		"three chains are popped in order, and may be pushed in any order",
		`three chains were popped as ${heads.join()} and pushed as 2,0,1; the used ring has ${used.join() || "nothing"}`,
		"The used ring has an index of its own: chains end in the order in which the device finishes them",
	);
}

function checkInterrupts({ report, driver, queue, memory }: Bench): void {
	report.doing("interruptWanted");
	const before = queue.interruptWanted();
	memory.setUint16(driver.layout.avail, 1, true);
	const after = queue.interruptWanted();
	report.expect(
		before === true && after === false,
		"interruptWanted follows the driver's flag NO_INTERRUPT",
		`interruptWanted is ${before} with avail.flags 0 and ${after} with avail.flags 1 (NO_INTERRUPT); true and false were expected`,
		"Read avail.flags, a u16 at avail, each time: the driver changes it while it runs",
	);
}

/** Enough for 16-bit indices to wrap. */
const MANY = 0x10000 + 20;

function checkWrap(bench: Bench): void {
	const { report, driver, queue } = bench;
	report.doing(`${MANY} chains, one after the other`);
	for (let i = 0; i < MANY; i++) {
		const head = i % SIZE;
		driver.chain([head], [{ address: 0x8000, length: 16, writable: true }]);
		const chain = queue.pop();
		if (chain === undefined) {
			bench.report.fail(
				`chain ${i + 1} of ${MANY} is not popped: avail.idx has ${i >= 0xffff ? "wrapped to" : "become"} ${driver.availIdx}`,
				"Indices are 16 bits wide and wrap from 65535 to 0: compare them for equality, and keep yours & 0xffff",
			);
		}
		queue.push(chain.head, 16);
		const used = driver.collect();
		if (used.length !== 1 || used[0]?.id !== head) {
			report.fail(
				`chain ${i + 1} of ${MANY} does not come back: used.idx is ${driver.usedIdx}, and element ${i % SIZE} is head ${driver.usedEntry(i & 0xffff).id}`,
				"The element's place is your count % size, and used.idx is the count & 0xffff",
			);
		}
	}
	report.must(
		queue.pop() === undefined,
		"and then pop gives undefined",
		`all chains were taken, and pop gives another one: avail.idx is ${driver.availIdx}, and ${MANY} were taken`,
		"Your count must wrap where avail.idx does: keep it & 0xffff",
	);
	report.right(`${MANY} chains went through: the rings and the 16-bit indices wrap`);
}

/** What a hostile guest puts on the queue. */
interface Evil {
	readonly what: string;
	readonly advice: string;
	offer(driver: RingDriver): void;
}

const part = (address: number, length: number): Part => ({ address, length, writable: true });

const EVIL: readonly Evil[] = [
	{
		what: `a head of ${SIZE + 1} in a queue of ${SIZE}`,
		advice: "Compare the head with the size before you use it as an index",
		offer: (driver) => driver.offer(SIZE + 1),
	},
	{
		what: "a next of 4000",
		advice: "Compare next with the size before you follow it",
		offer: (driver) => {
			driver.descriptor(0, part(0x8000, 16), 4000);
			driver.offer(0);
		},
	},
	{
		what: "a chain that points in a circle",
		advice: "A chain has at most as many descriptors as the queue: count them",
		offer: (driver) => {
			driver.descriptor(0, part(0x8000, 16), 1);
			driver.descriptor(1, part(0x8000, 16), 0);
			driver.offer(0);
		},
	},
	{
		what: "a buffer that ends beyond the RAM",
		advice: "Check address + length against memory.byteLength",
		offer: (driver) => driver.chain([0], [part(RAM_BYTES - 8, 16)]),
	},
	{
		what: "a buffer at 2^64 - 8",
		advice: "Compare before you convert or add: 2^64 - 8 plus 16 is 8 in 64 bits, and a number loses digits",
		offer: (driver) => {
			driver.descriptor(0, part(0, 16));
			driver.memory.setBigUint64(driver.layout.desc, 0xffff_ffff_ffff_fff8n, true);
			driver.offer(0);
		},
	},
];

function checkEvil({ report, driver, queue }: Bench, { what, advice, offer }: Evil): void {
	offer(driver);
	report.doing(`pop, when a hostile guest has offered ${what}`);
	try {
		const chain = queue.pop();
		report.wrong(
			`a hostile guest: pop gives ${chain === undefined ? "undefined" : `a chain of ${chain.parts?.length} parts`} for ${what}; an Error was expected`,
			advice,
		);
	} catch (error) {
		const own = error instanceof Error && !(error instanceof RangeError) && !(error instanceof TypeError);
		report.expect(
			own,
			`a hostile guest: pop refuses ${what}`,
			`a hostile guest: for ${what}, pop fails by accident (${(error as Error).message}); an Error of its own was expected`,
			advice,
		);
	}
}

/*
 * What a driver must not do on a queue (virtio 1.2 §2.7). Each function makes one bad chain available. A device that
 * then looks at the queue has to set DEVICE_NEEDS_RESET, and to work as a new one after a reset.
 */
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "../../src/virtio/ring.ts";
import type { FakeDriver } from "./fake-driver.ts";
import { type FakeQueue, rawDescriptor } from "./fake-queue.ts";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

export interface HostileMove {
	/** "a chain that loops" */
	what: string;
	play(queue: FakeQueue, driver: FakeDriver): void;
}

/** One descriptor in slot 0, available. */
function single(what: string, gpa: number, length: number, flags = 0, next = 0): HostileMove {
	return {
		what,
		play: (queue) => {
			queue.rawDescriptor(0, { gpa, length, flags, next });
			queue.rawAvailable(0);
		},
	};
}

/** An indirect table of these descriptors, available; `buffer` is a valid address. */
function table(
	what: string,
	entries: (buffer: number, table: number) => [gpa: number, length: number, flags: number, next: number][],
): HostileMove {
	return {
		what,
		play: (queue, driver) => {
			const buffer = driver.ram.alloc(64);
			const at = driver.ram.alloc(64);
			const list = entries(buffer, at);
			list.forEach(([gpa, length, flags, next], i) => {
				rawDescriptor(driver.memory, at, i, { gpa, length, flags, next });
			});
			queue.rawDescriptor(0, { gpa: at, length: 16 * list.length, flags: INDIRECT, next: 0 });
			queue.rawAvailable(0);
		},
	};
}

/** Needs a queue of at least two entries, and EVENT_IDX or not, INDIRECT_DESC negotiated. */
export const HOSTILE_MOVES: readonly HostileMove[] = [
	{
		what: "a chain that loops",
		play: (queue, driver) => {
			const gpa = driver.ram.alloc(16);
			queue.rawDescriptor(0, { gpa, length: 16, flags: NEXT, next: 1 });
			queue.rawDescriptor(1, { gpa, length: 16, flags: NEXT, next: 0 });
			queue.rawAvailable(0);
		},
	},
	{
		what: "a descriptor that is its own next",
		play: (queue, driver) => {
			queue.rawDescriptor(1, { gpa: driver.ram.alloc(16), length: 0, flags: NEXT | WRITE, next: 1 });
			queue.rawAvailable(1);
		},
	},
	{ what: "a head outside the queue", play: (queue) => queue.rawAvailable(queue.size) },
	{ what: "a head of 65535", play: (queue) => queue.rawAvailable(0xffff) },
	single("a next outside the queue", 0x1000, 16, NEXT, 0xffff),
	single("an address beyond RAM", 0x7fff_0000_0000, 16),
	single("an address at the end of the address space", 0xffff_ffff * 2 ** 32, 0xffff_ffff, WRITE),
	single("an address one byte before the end of RAM", 0x1_0000_0000 - 1, 2, WRITE),
	single("a length that leaves RAM", 0x1000, 0xffff_ffff, WRITE),
	single("an indirect table outside RAM", 0x7fff_0000_0000, 32, INDIRECT),
	single("an indirect table of no entries", 0x1000, 0, INDIRECT),
	single("an indirect table of half an entry", 0x1000, 24, INDIRECT),
	single("an indirect table of a million entries", 0x1000, 16_000_000, INDIRECT),
	single("an indirect table with a next", 0x1000, 16, INDIRECT | NEXT, 1),
	table("an indirect table in an indirect table", (_buffer, at) => [[at, 16, INDIRECT, 0]]),
	table("a loop in an indirect table", (buffer) => [
		[buffer, 1, NEXT, 1],
		[buffer, 1, NEXT, 0],
	]),
	table("a next outside its indirect table", (buffer) => [[buffer, 1, NEXT, 1]]),
	table("a readable buffer after a writable one in a table", (buffer) => [
		[buffer, 8, NEXT | WRITE, 1],
		[buffer, 8, 0, 0],
	]),
	{
		what: "a readable buffer after a writable one",
		play: (queue, driver) => {
			const gpa = driver.ram.alloc(16);
			queue.rawDescriptor(0, { gpa, length: 16, flags: NEXT | WRITE, next: 1 });
			queue.rawDescriptor(1, { gpa, length: 16, flags: 0, next: 0 });
			queue.rawAvailable(0);
		},
	},
	{
		what: "an avail.idx that jumps by more than the queue's size",
		play: (queue) => queue.rawAvailIdx(queue.usedIdx + queue.size + 1),
	},
	{ what: "an avail.idx that goes back", play: (queue) => queue.rawAvailIdx(queue.usedIdx - 1) },
];

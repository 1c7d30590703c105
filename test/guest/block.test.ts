/*
 * A virtio-blk driver in ring 3 against the real device, transport, disk and eventfds: the whole hot path, without
 * Linux.
 */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { BlockBackend } from "../../src/backends/contract.ts";
import { FileDisk } from "../../src/backends/file-disk.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { virtioSlot } from "../../src/machine/memory-map.ts";
import { VirtioAttachment } from "../../src/machine/virtio-attachment.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { BareGuest, buildBareGuests } from "./bare-guest.ts";

beforeAll(buildBareGuests);

const REQUESTS = 256;
const BYTES = 4096;
let directory: string;
let path: string;
let guest: BareGuest;
let attachment: VirtioAttachment | undefined;

beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-block-"));
	path = join(directory, "disk");
	writeFileSync(path, "");
	truncateSync(path, REQUESTS * BYTES);
	guest = new BareGuest("block", { irqchip: true });
});
afterEach(async () => {
	guest.runLoop.stop();
	await attachment?.close();
	attachment = undefined;
	guest.close();
	rmSync(directory, { recursive: true, force: true });
});

/** Runs the driver against `disk`; gives how many kicks it needed. */
async function run(disk: BlockBackend, interrupts: boolean, eventIdx: boolean, depth: number): Promise<number> {
	const parameters = [interrupts ? 1 : 0, eventIdx ? 1 : 0, depth, REQUESTS];
	guest.runLoop.registerPosted(true, 0x3f8, 1);
	guest.pio.add(0x514, 4, { name: "parameters", read: () => parameters.shift() ?? 0, write: () => undefined });
	attachment = new VirtioAttachment(new BlockDevice(disk), virtioSlot(0), guest);
	expect(await guest.run()).toEqual({ kind: "finished", status: 0 });
	return Number(guest.output);
}

/** What the driver has written to a disk. */
function written(): Buffer {
	const bytes = Buffer.alloc(REQUESTS * BYTES);
	for (let request = 0; request < REQUESTS; request++) {
		const first = Math.imul(request, 2654435761) >>> 0;
		for (let i = 0; i < BYTES / 4; i++) bytes.writeUInt32LE((first + i) >>> 0, request * BYTES + 4 * i);
	}
	return bytes;
}

describe.each([
	["polling", false, false],
	["polling with EVENT_IDX", false, true],
	["interrupts", true, false],
	["interrupts with EVENT_IDX", true, true],
] as const)("virtio-blk driven from ring 3 by %s", (_name, interrupts, eventIdx) => {
	it.each([1, 64])("writes, flushes and reads back a file, %d requests in flight", async (depth) => {
		const kicks = await run(FileDisk.open(path), interrupts, eventIdx, depth);
		expect(kicks).toBeGreaterThan(0);
		expect(kicks).toBeLessThanOrEqual((2 * REQUESTS) / depth + 1);
		expect(Buffer.compare(readFileSync(path), written())).toBe(0);
	});

	it("writes and reads back a disk in memory", async () => {
		const disk = new MemoryDisk(REQUESTS * BYTES);
		await run(disk, interrupts, eventIdx, 16);
		expect(Buffer.compare(disk.bytes, written())).toBe(0);
	});
});

describe("virtio-blk driven by two vCPUs", () => {
	it.each([
		["a queue for each", 2],
		["one queue with a lock", 1],
	] as const)("reads the right blocks by %s", async (_name, queues) => {
		const blocks = Buffer.alloc(REQUESTS * BYTES);
		for (let block = 0; block < REQUESTS; block++) blocks.writeUInt32LE(block, block * BYTES);
		writeFileSync(path, blocks);
		guest.close();
		guest = new BareGuest("queues", { irqchip: true, vcpus: 2 });
		const parameters = [queues, 8, REQUESTS / 2];
		guest.pio.add(0x514, 4, { name: "parameters", read: () => parameters.shift() ?? 0, write: () => undefined });
		const device = new BlockDevice(FileDisk.open(path, { readOnly: true }), { queues });
		attachment = new VirtioAttachment(device, virtioSlot(0), guest);
		expect(await guest.run()).toEqual({ kind: "finished", status: 0 });
	});
});

/*
 * A disk of a bare-metal guest: its driver (guests/bare/block.c) has some requests in flight, or two vCPUs read it
 * (guests/bare/queues.c).
 */
import type { BlockBackend } from "../../src/backends/contract.ts";
import { FileDisk } from "../../src/backends/file-disk.ts";
import { virtioSlot } from "../../src/machine/memory-map.ts";
import { VirtioAttachment } from "../../src/machine/virtio-attachment.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { BareGuest } from "../guest/bare-guest.ts";

/** Bytes of a request. */
export const BLOCK_BYTES = 4096;

/** What a driver does with a disk. */
export interface Drive {
	/** Requests in flight, of each vCPU. */
	depth: number;
	/** Requests in all, of each vCPU. */
	count: number;
	/** The ring may be polled; true when missing. */
	polled?: boolean;
}

/** Requests per second. */
export interface BlockRates {
	writes: number;
	reads: number;
}

/** Runs a guest on the disk. @returns milliseconds at which it has told the time */
async function drive(
	guest: BareGuest,
	device: BlockDevice,
	parameters: number[],
	polled = true,
): Promise<readonly number[]> {
	if (!polled) guest.runLoop.mayPoll = () => false;
	const attachment = new VirtioAttachment(device, virtioSlot(0), guest);
	try {
		const times: number[] = [];
		guest.runLoop.registerPosted(true, 0x3f8, 1);
		guest.pio.add(0x514, 4, {
			name: "clock",
			read: () => parameters.shift() ?? 0,
			write: () => {
				times.push(performance.now());
			},
		});
		const end = await guest.run();
		if (end.kind !== "finished" || end.status !== 0) throw new Error(`the guest ended with ${JSON.stringify(end)}`);
		return times;
	} finally {
		guest.runLoop.stop();
		attachment.close();
		await device.close();
		guest.close();
	}
}

/** One vCPU writes `count` blocks from the disk's beginning on, and reads them back. */
export async function blockRates(disk: BlockBackend, { depth, count, polled }: Drive): Promise<BlockRates> {
	const guest = new BareGuest("block", { irqchip: true });
	const times = await drive(guest, new BlockDevice(disk), [0, 0, depth, count], polled);
	const rate = (phase: number) => count / ((times[phase + 1]! - times[phase]!) / 1000);
	return { writes: rate(0), reads: rate(1) };
}

/** Requests per second that the driver reads of `path`, of `count`, with `depth` in flight. */
export async function blockReads(path: string, depth: number, count: number): Promise<number> {
	return (await blockRates(FileDisk.open(path), { depth, count })).reads;
}

/** Requests per second that two vCPUs read together, of a disk whose first word of block n is n, by so many queues. */
export async function queueReads(path: string, queues: 1 | 2, { depth, count, polled }: Drive): Promise<number> {
	const guest = new BareGuest("queues", { irqchip: true, vcpus: 2 });
	const device = new BlockDevice(FileDisk.open(path, { readOnly: true }), { queues });
	const [begin = 0, end = 0] = await drive(guest, device, [queues, depth, count], polled);
	return (2 * count) / ((end - begin) / 1000);
}

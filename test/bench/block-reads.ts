/*
 * A disk of a bare-metal guest, whose driver (guests/bare/block.c) has some requests in flight.
 */
import { FileDisk } from "../../src/backends/file-disk.ts";
import { virtioSlot } from "../../src/machine/memory-map.ts";
import { VirtioAttachment } from "../../src/machine/virtio-attachment.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { BareGuest } from "../guest/bare-guest.ts";

/** Bytes of a request. */
export const BLOCK_BYTES = 4096;

/** Requests per second that the driver reads of `path`, of `count`, with `depth` in flight. */
export async function blockReads(path: string, depth: number, count: number): Promise<number> {
	const guest = new BareGuest("block", { irqchip: true });
	const device = new BlockDevice(FileDisk.open(path));
	const attachment = new VirtioAttachment(device, virtioSlot(0), guest);
	try {
		const parameters = [0, 0, depth, count];
		const phases: number[] = [];
		guest.runLoop.registerPosted(true, 0x3f8, 1);
		guest.pio.add(0x514, 4, {
			name: "clock",
			read: () => parameters.shift() ?? 0,
			write: () => {
				phases.push(performance.now());
			},
		});
		const end = await guest.run();
		if (end.kind !== "finished" || end.status !== 0) throw new Error(`the guest ended with ${JSON.stringify(end)}`);
		return count / ((phases[2]! - phases[1]!) / 1000);
	} finally {
		guest.runLoop.stop();
		attachment.close();
		await device.close();
		guest.close();
	}
}

/*
 * A disk in memory with broken sectors, and a guest that reads it. A BlockBackend sees neither the queue nor the
 * guest's memory map, only bytes at offsets. So a fault takes a few lines. The guest (kernel.ts) reads sectors 0 and 1
 * and prints the status byte of each answer (virtio 1.2 §5.2.6).
 */
import { rmSync } from "node:fs";
import { type BlockResult, describeShutdown, Machine, MemoryDisk } from "tsvmm";
import type { Segments } from "tsvmm/virtio";
import { addByte, BUFFERS, powerOff, print, request, startDevice, store, text, writeKernel } from "./kernel.ts";

const SECTOR_BYTES = 512;

/** Reads of the sectors in `broken` fail. */
class FaultyDisk extends MemoryDisk {
	readonly broken = new Set<number>();
	#complete: (token: number, result: BlockResult) => void = () => undefined;
	#failed: number[] = [];

	override start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
		super.start(complete);
	}

	override read(token: number, offsetBytes: number, into: Segments): void {
		const [first, end] = [offsetBytes / SECTOR_BYTES, (offsetBytes + into.totalBytes) / SECTOR_BYTES];
		const fails = [...this.broken].some((sector) => first <= sector && sector < end);
		if (fails) this.#failed.push(token);
		else super.read(token, offsetBytes, into);
	}

	/* A request may be answered inside `submit`, but never inside `read`. */
	override submit(): void {
		for (const token of this.#failed.splice(0)) this.#complete(token, "io");
		super.submit();
	}
}

/** What the guest does: reads sector `n` as request number `n`, and prints a line. */
function readSector(n: number): number[] {
	const [header, data, line] = [BUFFERS + 0x1000 * n, BUFFERS + 0x1000 * n + 0x200, BUFFERS + 0x1000 * n + 0x800];
	const label = `sector ${n}: status `;
	const status = line + label.length;
	return [
		text(line, `${label}?\n`),
		store(header, 0) /* VIRTIO_BLK_T_IN */,
		store(header + 8, n),
		request(n, [
			{ address: header, lengthBytes: 16 },
			{ address: data, lengthBytes: SECTOR_BYTES, write: true },
			{ address: status, lengthBytes: 1, write: true },
		]),
		addByte(status, "0".charCodeAt(0)),
		print(line, label.length + 2),
	].flat();
}

const disk = new FaultyDisk(1 << 20);
disk.bytes.set(Buffer.from("hello..."));
disk.broken.add(1);

const kernel = `faulty-disk-${process.pid}.elf`;
writeKernel(kernel, startDevice(), readSector(0), readSector(1), powerOff());
try {
	await using machine = await Machine.create({ kernel, disks: [{ backend: disk }], console: { kind: "stdio" } });
	machine.start();
	console.log(describeShutdown(await machine.ended));
} finally {
	rmSync(kernel);
}

/* Expected output:
sector 0: status 0
sector 1: status 1
guest powered off
*/

/*
 * Exercise 2: your own disk. A virtio-blk device is connected to a BlockBackend. This one stores nothing and makes up
 * each sector when it is read. docs/exercises/own-disk.md explains each step. Run it with
 *
 *     npx tsx docs/exercises/own-disk.ts
 */
import type { BlockBackend, BlockResult } from "../../src/backends/contract.ts";
import type { Segments } from "../../src/base/segments.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { readChain, status, writeChain } from "../../test/driver/block-chains.ts";
import { FakeDriver } from "../../test/driver/fake-driver.ts";

/* The disk. */
class TalkingDisk implements BlockBackend {
	readonly sizeBytes = 1 << 30;
	readonly readOnly = true;
	#complete!: (token: number, result: BlockResult) => void;
	readonly #answers: [token: number, result: BlockResult][] = [];

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}
	read(token: number, offsetBytes: number, into: Segments): void {
		for (let at = 0; at < into.totalBytes; at += 512) {
			const text = `I am sector ${(offsetBytes + at) / 512}.\n`;
			into.copyFrom(Buffer.from(text.padEnd(512, "\0")), at);
		}
		this.#answers.push([token, "ok"]);
	}
	write = (token: number): unknown => this.#answers.push([token, "unsupported"]);
	discard = (token: number): unknown => this.#answers.push([token, "unsupported"]);
	writeZeroes = (token: number): unknown => this.#answers.push([token, "unsupported"]);
	flush = (token: number): unknown => this.#answers.push([token, "ok"]);
	submit(): void {
		for (const [token, result] of this.#answers.splice(0)) this.#complete(token, result);
	}
	async close(): Promise<void> {
		console.log("closed");
	}
}

/* A driver: the one of the tests, which writes real rings into an ordinary ArrayBuffer. */
const device = new BlockDevice(new TalkingDisk(), { id: "talking" });
const driver = new FakeDriver(device).start();
const queue = driver.queue(0);
const text = (data: Uint8Array) => Buffer.from(data).toString().replaceAll("\0", "").slice(0, -1);

/* One sector. Then two sectors into buffers of odd sizes, which the disk need not know. */
const one = await queue.request(readChain(7, 512));
console.log(`status ${status(one)}, ${one.written} bytes: ${text(one.data.subarray(0, 512))}`);
const two = await queue.request(readChain(2_000_000, 100, 700, 224));
console.log(`status ${status(two)}, ${two.written} bytes: ${text(two.data.subarray(0, 1024)).replace("\n", " ")}`);

/* The device refuses these requests, so the disk never gets them. 1 is VIRTIO_BLK_S_IOERR. */
console.log(`a write: status ${status(await queue.request(writeChain(0, new Uint8Array(512))))}`);
console.log(`beyond the end: status ${status(await queue.request(readChain(1 << 21, 512)))}`);
console.log(`${driver.interrupts} interrupts`);
await device.close();

/* Expected output:
status 0, 513 bytes: I am sector 7.
status 0, 1025 bytes: I am sector 2000000. I am sector 2000001.
a write: status 1
beyond the end: status 1
4 interrupts
closed
*/

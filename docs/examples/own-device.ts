/*
 * A kernel with a device of your own. The device has one queue. Each request is a text to read and a buffer to write,
 * and the answer is the text backwards. The kernel (kernel.ts) sends one request, prints the answer, and powers off.
 */
import { rmSync } from "node:fs";
import { describeShutdown, Machine } from "tsvmm";
import type { Activation, VirtioDevice, Virtqueue } from "tsvmm/virtio";
import { BUFFERS, powerOff, print, request, startDevice, text, writeKernel } from "./kernel.ts";

class Reverser implements VirtioDevice {
	readonly name = "reverser";
	readonly deviceId = 63; /* no device type of the specification */
	readonly features = 0n;
	readonly queueSizes = [16];
	readonly config = new Uint8Array(0);
	#queue: Virtqueue | undefined;

	/* The driver has set the device up: the queue is ours until it resets the device. */
	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	/* The driver has put requests into the queue. It chose their lengths, so we bound them. */
	notify(): void {
		const queue = this.#queue;
		if (queue === undefined) return;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			const question = Buffer.alloc(Math.min(chain.readable.totalBytes, 4096));
			chain.readable.copyTo(question);
			console.log(`device: asked for ${question}`);
			queue.push(chain, chain.writable.copyFrom(question.reverse()));
		}
		queue.flush(); /* publishes all answers, with one interrupt */
	}

	reset(): void {
		this.#queue = undefined;
	}

	/* The machine ends. This device has nothing of the host to release. */
	async close(): Promise<void> {
		this.reset();
	}
}

const QUESTION = "desserts";
const ANSWER = BUFFERS + 0x1000;
const kernel = `own-device-${process.pid}.elf`;
writeKernel(
	kernel,
	startDevice(),
	text(BUFFERS, QUESTION),
	text(ANSWER, `${" ".repeat(QUESTION.length)} has come back\n`),
	request(0, [
		{ address: BUFFERS, lengthBytes: QUESTION.length },
		{ address: ANSWER, lengthBytes: QUESTION.length, write: true },
	]),
	print(ANSWER, QUESTION.length + " has come back\n".length),
	powerOff(),
);
try {
	await using machine = await Machine.create({ kernel, devices: [new Reverser()], console: { kind: "stdio" } });
	machine.start();
	console.log(describeShutdown(await machine.ended));
} finally {
	rmSync(kernel);
}

/* Expected output:
device: asked for desserts
stressed has come back
guest powered off
*/

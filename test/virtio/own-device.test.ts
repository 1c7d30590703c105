/*
 * A device of one's own, as docs/tour.md says: everything from the imports to the end of the class is what it takes.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import type { Virtqueue } from "../../src/virtio/queue.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { deviceSuite } from "./device-suite.ts";

/** Gives each request back in capitals. Config space: one byte, how many bytes of a request it reads at most. */
class Shouter implements VirtioDevice {
	readonly name = "shouter0";
	readonly deviceId = 63; /* no device type of the specification has this number */
	readonly features = 0n;
	readonly queueSizes = [16];
	readonly config = Uint8Array.of(80);
	#queue: Virtqueue | undefined;

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	notify(): void {
		const queue = this.#queue;
		if (queue === undefined) return;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			const text = Buffer.alloc(this.config[0]!);
			const length = chain.readable.copyTo(text);
			const answer = Buffer.from(text.toString("latin1", 0, length).toUpperCase(), "latin1");
			queue.push(chain, chain.writable.copyFrom(answer));
		}
		queue.flush();
	}

	reset(): void {
		this.#queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}
}

test("a device of one's own answers the requests of a driver", async () => {
	const driver = new FakeDriver(new Shouter()).start();
	const used = await driver.queue(0).request([readable("hello, "), readable("world"), writable(5), writable(75)]);
	expect(Buffer.from(used.data.subarray(0, used.written)).toString()).toBe("HELLO, WORLD");
	const long = await driver.queue(0).request([readable("x".repeat(100)), writable(100)], true);
	expect(long.written).toBe(80);
	expect(driver.interrupts).toBe(2);
});

/* Whatever a hostile driver does, the same as for every device of tsvmm. */
deviceSuite({ name: "Shouter", make: () => new Shouter(), eager: [0] });

test("a device of one's own takes fewer than sixty lines", () => {
	const source = readFileSync(fileURLToPath(import.meta.url), "utf8");
	expect(source.slice(0, source.indexOf("\ntest(")).split("\n").length).toBeLessThan(60);
});

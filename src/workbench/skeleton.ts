/*
 * The files that `tsvmm device new` writes: a whole device to go on from, and a test of it.
 * The device answers each text with the text backwards.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoName, explain, HostError, UsageError } from "../base/errors.ts";

/**
 * Writes the skeleton of a device, and a test of it.
 *
 * @param name in small letters, digits and dashes
 * @returns the paths of both files
 * @throws UsageError ERR_DEVICE_NAME for another name or a file that is there, HostError ERR_DEVICE_WRITE
 */
export function writeSkeleton(name: string, directory: string): string[] {
	if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name) || name.length > 40) {
		throw new UsageError("ERR_DEVICE_NAME", `Cannot make a device "${name}": it is no plain name`, {
			hint: "Use at most 40 small letters, digits and dashes, and begin with a letter",
		});
	}
	const [device, test] = [join(directory, `${name}.ts`), join(directory, `${name}.test.ts`)];
	/* Nothing is written then. */
	if (existsSync(test)) throw isThere(test);
	write(device, skeleton(name), directory);
	write(test, skeletonTest(name), directory);
	return [device, test];
}

function write(path: string, text: string, directory: string): void {
	try {
		if (!existsSync(directory)) mkdirSync(directory);
		writeFileSync(path, text, { flag: "wx" });
	} catch (cause) {
		if (errnoName(cause) === "EEXIST") throw isThere(path);
		throw new HostError("ERR_DEVICE_WRITE", `Cannot write ${path}: ${explain(cause)}`, { cause });
	}
}

function isThere(path: string): UsageError {
	return new UsageError("ERR_DEVICE_NAME", `Cannot make a device in ${path}: the file is there`, {
		hint: "Choose another name, or another directory by --dir",
	});
}

const classNameOf = (name: string): string =>
	name.replace(/(^|-)([a-z0-9])/g, (_, _dash: string, letter: string) => letter.toUpperCase());

function skeletonTest(name: string): string {
	const className = classNameOf(name);
	return `/*
 * Tests of ${name}.ts, without a guest:
 *
 *     tsvmm device test ${name}.ts
 */
import assert from "node:assert/strict";
import { TestDriver } from "tsvmm/virtio";
import ${className} from "./${name}.ts";

export default {
	"a text comes back backwards": async () => {
		const driver = TestDriver.start(new ${className}());
		const { written, data } = await driver.request(["desserts", 8]);
		assert.deepEqual([written, String(data)], [8, "stressed"]);
		assert.equal(driver.interrupts, 1);
	},

	"an answer fills no more than its buffer": async () => {
		const driver = TestDriver.start(new ${className}());
		const { written, data } = await driver.request(["desserts", 4]);
		assert.deepEqual([written, String(data)], [4, "stre"]);
	},

	"after a reset it answers again": async () => {
		const driver = TestDriver.start(new ${className}());
		await driver.restart();
		const { data } = await driver.request(["live", 4]);
		assert.equal(String(data), "evil");
	},
};
`;
}

function skeleton(name: string): string {
	const className = classNameOf(name);
	return `/*
 * A virtio device: each request has a text to read and a buffer to write, and the answer is the text backwards.
 *
 *     tsvmm boot --kernel vmlinux --device ./${name}.ts
 */
import type { Activation, VirtioDevice, Virtqueue } from "tsvmm/virtio";

/** A request has at most so many bytes. The guest chooses its length, so bound it. */
const MAX_BYTES = 4096;

export default class ${className} implements VirtioDevice {
	readonly name = "${name}";
	/** Which driver the guest binds to it: 4 is an entropy device, 63 none that Linux has. */
	readonly deviceId = 63;
	/** Feature bits of the device type. */
	readonly features = 0n;
	/** One queue of 16 descriptors. */
	readonly queueSizes = [16];
	/** What the guest reads as the device's configuration. */
	readonly config = new Uint8Array(0);
	#queue: Virtqueue | undefined;

	/** The driver has set the device up. */
	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	/** The driver has put requests into a queue. */
	notify(): void {
		for (let chain = this.#queue?.pop(); chain !== undefined; chain = this.#queue?.pop()) {
			const text = Buffer.alloc(Math.min(chain.readable.totalBytes, MAX_BYTES));
			chain.readable.copyTo(text);
			this.#queue?.push(chain, chain.writable.copyFrom(text.reverse()));
		}
		/* Publishes all answers, with one interrupt. */
		this.#queue?.flush();
	}

	/** The driver starts anew. */
	reset(): void {
		this.#queue = undefined;
	}

	/** The machine ends: release what the device has of the host. */
	async close(): Promise<void> {
		this.reset();
	}
}
`;
}

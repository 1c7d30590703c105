/*
 * The file that `tsvmm device new` writes: a whole device to go on from. It answers each text with the text backwards.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoName, explain, HostError, UsageError } from "../base/errors.ts";

/**
 * Writes the skeleton of a device.
 *
 * @param name in small letters, digits and dashes
 * @returns the path of the file
 * @throws UsageError ERR_DEVICE_NAME for another name or a file that is there, HostError ERR_DEVICE_WRITE
 */
export function writeSkeleton(name: string, directory: string): string {
	if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name) || name.length > 40) {
		throw new UsageError("ERR_DEVICE_NAME", `Cannot make a device "${name}": it is no plain name`, {
			hint: "Use at most 40 small letters, digits and dashes, and begin with a letter",
		});
	}
	const path = join(directory, `${name}.ts`);
	try {
		if (!existsSync(directory)) mkdirSync(directory);
		writeFileSync(path, skeleton(name), { flag: "wx" });
	} catch (cause) {
		if (errnoName(cause) === "EEXIST") {
			throw new UsageError("ERR_DEVICE_NAME", `Cannot make a device in ${path}: the file is there`, {
				hint: "Choose another name, or another directory by --dir",
			});
		}
		throw new HostError("ERR_DEVICE_WRITE", `Cannot write ${path}: ${explain(cause)}`, { cause });
	}
	return path;
}

function skeleton(name: string): string {
	const className = name.replace(/(^|-)([a-z0-9])/g, (_, _dash: string, letter: string) => letter.toUpperCase());
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

/*
 * Exercise 3: a device of your own under Linux. It claims to be an entropy device (virtio 1.2 §5.4), so Linux binds its
 * virtio_rng driver to it. /dev/hwrng then gives the bytes of this file, which are not random at all.
 * docs/exercises/own-rng.md explains each step. Run it with
 *
 *     npx tsx docs/exercises/own-rng.ts
 */
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { fetchKernel } from "../../src/kernel/store.ts";
import { Machine } from "../../src/machine/machine.ts";
import { describeShutdown } from "../../src/machine/shutdown-reason.ts";
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import type { Virtqueue } from "../../src/virtio/queue.ts";
import { VIRTIO_ID_RNG } from "../../src/virtio/rng.ts";
import { testInitrd } from "../../test/lab/initrd.ts";

class PatternRng implements VirtioDevice {
	readonly name = "pattern";
	readonly deviceId = VIRTIO_ID_RNG;
	readonly features = 0n;
	readonly queueSizes = [8];
	readonly config = new Uint8Array(0);
	#queue: Virtqueue | undefined;

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}
	/* Each chain is a buffer to fill. The guest chose its length, so we bound it. */
	notify(): void {
		const queue = this.#queue;
		for (let chain = queue?.pop(); chain !== undefined; chain = queue?.pop()) {
			const bytes = Buffer.alloc(Math.min(chain.writable.totalBytes, 4096), "I am not random\n");
			queue?.push(chain, chain.writable.copyFrom(bytes));
		}
		queue?.flush();
	}
	reset(): void {
		this.#queue = undefined;
	}
	async close(): Promise<void> {
		this.reset();
	}
}

/* Debian's kernel, an initrd with its modules and a shell, and a disk whose text the shell runs. */
const kernel = await fetchKernel("6.1-cloud");
const script = new MemoryDisk(512);
script.bytes.set(Buffer.from("cat /sys/class/misc/hw_random/rng_current; head -c 32 /dev/hwrng"));
await using machine = await Machine.create({
	kernel: kernel.vmlinux,
	initrd: await testInitrd(kernel),
	cmdline: "quiet",
	console: { kind: "stdio" },
	disks: [{ backend: script, id: "script" }],
	devices: [new PatternRng()],
});
machine.start();
console.log(describeShutdown(await machine.ended));

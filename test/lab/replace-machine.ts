/*
 * A machine that replaces its devices by new ones with the same state, while its guest writes to a disk and reads it
 * back. hot-plug.test.ts runs this program in the lab. Its arguments are the kernel, the initrd and the guest's script.
 * It prints what it saw as JSON.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlockBackend } from "../../src/backends/contract.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { Machine } from "../../src/machine/machine.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { ShellConsole } from "./shell-console.ts";

const [kernel, initrd, script] = process.argv.slice(2) as [string, string, string];
const BYTES = 2 << 20;
/* Writes other data in each round, and reads them back without the page cache. */
const WORK = `
wrong=0
for round in 1 2 3; do
	yes "round $round" | dd of=/tmp/wanted bs=64k count=32 iflag=fullblock 2>/dev/null
	dd if=/tmp/wanted of=/dev/vdb bs=16k oflag=direct 2>/dev/null
	dd if=/dev/vdb bs=4k iflag=direct 2>/dev/null | cmp - /tmp/wanted || wrong=$((wrong+1))
done
echo $wrong
`
	.trim()
	.split("\n")
	.join(";")
	.replaceAll("do;", "do ");

/** The disk has a queue for each. */
const CPUS = 2;

const shell = new ShellConsole();
const disk = new MemoryDisk(BYTES);

/** A back end of the one disk. Each device has its own, so that answers reach the device that has asked. */
class Path implements BlockBackend {
	readonly sizeBytes = BYTES;
	readonly readOnly = false;
	readonly read = disk.read.bind(disk);
	readonly write = disk.write.bind(disk);
	readonly flush = disk.flush.bind(disk);
	readonly discard = disk.discard.bind(disk);
	readonly writeZeroes = disk.writeZeroes.bind(disk);
	#complete: Parameters<BlockBackend["start"]>[0] = () => undefined;

	start(complete: Parameters<BlockBackend["start"]>[0]): void {
		this.#complete = complete;
	}
	/** Answers late, so that requests are in flight when the device is replaced. */
	submit(): void {
		setTimeout(() => {
			disk.start(this.#complete);
			disk.submit();
		}, 1);
	}
	async close(): Promise<void> {
		/* The disk stays. */
	}
}
await using machine = await Machine.create({
	kernel,
	initrd,
	cmdline: "quiet",
	memoryMiB: 128,
	cpus: CPUS,
	console: { kind: "own", console: shell },
	disks: [{ path: script, readOnly: true, id: "script" }, { backend: new Path() }],
	rng: true,
	vsock: {},
});
machine.start();
await shell.shows("=0=0=\n");
await shell.sh("dmesg -c >/dev/null");

let rounds = 0;
let working = true;
const work = shell.sh(WORK).finally(() => {
	working = false;
});
while (working) {
	if (rounds % 3 === 0) await machine.pause();
	await machine.replaceDevice("disk1", new BlockDevice(new Path(), { queues: CPUS }));
	await machine.replaceDevice("rng", new RngDevice());
	await machine.replaceDevice("vsock", new VsockDevice(3, await UnixVsock.open()));
	if (rounds % 3 === 0) machine.resume();
	rounds++;
	await sleep(20);
}

const wrong = await work;
const guest = await shell.sh("dd if=/dev/vdb bs=64k iflag=direct 2>/dev/null | sha256sum | cut -c1-64");
const host = createHash("sha256").update(disk.bytes).digest("hex");
const random = await shell.sh("dd if=/dev/hwrng bs=4096 count=1 iflag=fullblock 2>/dev/null | wc -c");
const complaints = await shell.sh("dmesg | grep -iE 'warn|error|bug|call trace'; true");
process.stdout.write(`${JSON.stringify({ rounds: `${rounds}`, wrong, guest, host, random, complaints })}\n`);

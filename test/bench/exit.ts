/*
 * The vCPU and the hot path against C: an exit's round trip to TypeScript, a write that the posted ring takes, a kick
 * answered on a virtqueue, both with and without a trace, the virtqueue alone, and virtio-blk requests. Guests: guests/bare/bench.c and block.c; the
 * same VM for both sides.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Observers } from "../../src/base/observer.ts";
import { EventFd } from "../../src/host/eventfd.ts";
import { packageRoot } from "../../src/host/native.ts";
import { eventObserver } from "../../src/trace/recorder.ts";
import { Poller } from "../../src/virtio/poller.ts";
import { Virtqueue } from "../../src/virtio/queue.ts";
import { BareGuest, buildBareGuests, writeOnly } from "../guest/bare-guest.ts";
import { BLOCK_BYTES, blockReads } from "./block-reads.ts";
import { CHECKS, checkNs } from "./observers.ts";
import { measureQueue } from "./queue.ts";
import { type BenchRow, rateRow, timeRow } from "./row.ts";
import { best } from "./turns.ts";

const MMIO = 0xd000_0000;
const EXITS = 1;
const KICKS = 2;
/** Kicks while the device wants them. */
const WANTED_KICKS = 3;

interface Reference {
	run(vcpuFd: number, runBytes: number, eventFd: number, ram: number, mode: number, count: number): number;
	read(path: string, count: number): number;
	queue(batch: number, rounds: number): number;
}

/** Builds test/bench/reference.c into `directory` and loads it. */
function loadReference(directory: string): Reference {
	const library = join(directory, "reference.so");
	const source = join(packageRoot(), "test/bench/reference.c");
	execFileSync("gcc", ["-O2", "-Wall", "-shared", "-fPIC", "-pthread", "-o", library, source]);
	const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
	const lib = koffi.load(library);
	return {
		run: lib.func(
			"double reference_run(int vcpu, uint32_t bytes, int event, double ram, uint32_t mode, uint32_t count)",
		),
		read: lib.func("double reference_read(const char *path, uint32_t count)"),
		queue: lib.func("double reference_queue(uint32_t batch, uint32_t rounds)"),
	};
}

/** Seconds that the bench guest takes in C. */
function inC(reference: Reference, mode: number, count: number): number {
	const guest = new BareGuest("bench");
	const kick = new EventFd();
	try {
		guest.vm.ioeventfd({ fd: kick.fd, address: MMIO + 0x50, size: 4 });
		const ram = guest.memory.windows[0]!.hva;
		const seconds = reference.run(guest.vcpus[0]!.fd, guest.vm.vcpuMmapSize, kick.fd, ram, mode, count);
		if (seconds < 0) throw new Error("the reference did not come to its end");
		return seconds;
	} finally {
		guest.close();
		kick.close();
	}
}

/** Seconds that it takes in TypeScript; `posted`: the writes do not stop the vCPU. */
async function inTypeScript(mode: number, count: number, posted = false, observers = new Observers()): Promise<number> {
	const guest = new BareGuest("bench", { observers });
	const kick = new EventFd();
	try {
		const parameters = [mode, count];
		const addresses: number[] = [];
		let start = 0;
		let written = 0;
		guest.vm.ioeventfd({ fd: kick.fd, address: MMIO + 0x50, size: 4 });
		guest.pio.add(0x514, 4, {
			name: "clock",
			read: () => parameters.shift() ?? 0,
			write: () => {
				start = performance.now();
			},
		});
		guest.pio.add(
			0x518,
			4,
			writeOnly("queue", (address) => {
				addresses.push(address);
				if (addresses.length < 3) return;
				const [desc, avail, used] = addresses as [number, number, number];
				const layout = { size: 16, desc, avail, used, eventIdx: false, indirect: false };
				const events = { interrupt: () => undefined, broken: () => undefined };
				const queue = new Virtqueue(guest.memory, layout, events, {
					observers: { observers, device: "bench", index: 0 },
				});
				const serve = () => {
					for (let chain = queue.pop(); chain; chain = queue.pop()) queue.push(chain, 0);
					queue.flush();
				};
				const poller = new Poller(guest.runLoop, { queue, serve, collect: () => undefined });
				kick.watch(mode === WANTED_KICKS ? () => poller.kicked() : serve);
			}),
		);
		guest.mmio.add(
			MMIO + 0x80,
			4,
			writeOnly("register", () => {
				written++;
			}),
		);
		if (posted) guest.runLoop.registerPosted(false, MMIO + 0x80, 4);
		const end = await guest.run();
		const seconds = (performance.now() - start) / 1000;
		if (end.kind !== "finished" || end.status !== 0) throw new Error(`the guest ended with ${JSON.stringify(end)}`);
		if (mode === EXITS && written !== count) throw new Error(`${written} of ${count} writes arrived`);
		return seconds;
	} finally {
		guest.close();
		kick.close();
	}
}

/** All rows of this file; needs /dev/kvm and gcc. About 5 s. */
export async function benchExits(): Promise<BenchRow[]> {
	buildBareGuests();
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	try {
		const reference = loadReference(directory);
		/* The lab's processor is emulated, and a ratio needs no more of it. */
		const scale = process.env.TSVMM_LAB === "1" ? 16 : 1;
		const exits = Math.ceil(3000 / scale);
		const kicks = Math.ceil(2000 / scale);
		const microseconds = (count: number) => (seconds: number) => (seconds / count) * 1e6;
		const exitTimes = await best(
			[() => inC(reference, EXITS, exits), () => inTypeScript(EXITS, exits), () => inTypeScript(EXITS, exits, true)],
			Math.min,
		);
		const [exitC = 0, exitTs = 0, exitPosted = 0] = exitTimes.map(microseconds(exits));
		const kickTimes = await best(
			[KICKS, WANTED_KICKS].flatMap((mode) => [() => inC(reference, mode, kicks), () => inTypeScript(mode, kicks)]),
			Math.min,
		);
		const [kickC = 0, kickTs = 0, polledC = 0, polledTs = 0] = kickTimes.map(microseconds(kicks));

		const traced = () => {
			const observers = new Observers();
			observers.attach(eventObserver({ event: () => undefined }));
			return observers;
		};
		const tracedTimes = await best(
			[() => inTypeScript(EXITS, exits, false, traced()), () => inTypeScript(WANTED_KICKS, kicks, false, traced())],
			Math.min,
		);
		const tracedExit = microseconds(exits)(tracedTimes[0] ?? 0);
		const tracedKick = microseconds(kicks)(tracedTimes[1] ?? 0);
		const checksUs = (CHECKS * checkNs()) / 1000;

		const batches = 20_000 / scale;
		const chainC = (reference.queue(64, batches) / (64 * batches)) * 1e9;
		const chainTs = measureQueue().chainNs[64] ?? Number.NaN;

		/* Enough for the just-in-time compiler to be done, as it is on a disk in use. */
		const requests = 16_384 / scale;
		const disk = join(directory, "disk");
		writeFileSync(disk, "");
		truncateSync(disk, requests * BLOCK_BYTES);
		const rates = await best(
			[
				() => blockReads(disk, 1, 2048 / scale),
				() => blockReads(disk, 64, requests),
				() => requests / reference.read(disk, requests),
			],
			Math.max,
		);
		const [depth1 = 0, depth64 = 0, pread = 0] = rates;
		return [
			timeRow("exit round trip", "us", exitTs, exitC, "the same loop in C"),
			timeRow("posted write", "us", exitPosted, exitC, "an exit in the same loop in C"),
			timeRow("kick to used, each by an exit", "us", kickTs, kickC, "a C thread on the eventfd"),
			timeRow("kick to used", "us", polledTs, kickC, "a C thread on the eventfd"),
			timeRow("kick to used, against polling", "us", polledTs, polledC, "a C thread that polls"),
			timeRow("exit round trip, no trace", "us", exitTs, exitTs - checksUs, "less what asking for a trace takes"),
			timeRow("kick to used, no trace", "us", polledTs, polledTs - checksUs, "less what asking for a trace takes"),
			timeRow("exit round trip, all traced", "us", tracedExit, exitTs, "the same without a trace"),
			timeRow("kick to used, all traced", "us", tracedKick, polledTs, "the same without a trace"),
			timeRow("virtqueue: pop, push, flush a chain", "ns", chainTs, chainC, "the same rings in C"),
			rateRow("virtio-blk 4 KiB reads, 1 in flight", depth1, pread, "pread on the host, no VM"),
			rateRow("virtio-blk 4 KiB reads, 64 in flight", depth64, pread, "pread on the host, no VM"),
		];
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}

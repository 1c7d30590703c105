/*
 * A guest's disk: ours against QEMU's microvm machine, with the same kernel, initial RAM disk and image, both in the lab
 * and in turns. The guest runs real fio (test/bench/disk.c). QEMU has its device in a thread of its own (iothread), and
 * does the I/O by io_uring in one run and by threads in another one. The better result counts.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { guestInitrd } from "./guest-initrd.ts";
import { benchKernel, type Guest, inLab, qemuCommand, runGuest, tsvmmCommand } from "./lab-host.ts";
import { type BenchRow, rateRow, table } from "./row.ts";

const MEMORY_MIB = 512;
/** In the lab. */
const HOST = "/run/bench-disk";
const IMAGE = "/dev/shm/bench-disk.img";
const IMAGE_MIB = 256;
const FIO = "/usr/bin/fio";
const MODULES = ["virtio_mmio", "virtio_blk"];

/** Of fio. */
export interface Job {
	readonly name: string;
	/** What is counted in a second. */
	readonly counted: "requests" | "MiB";
	readonly rw: "randread" | "randwrite" | "read" | "write";
	readonly kib: number;
	readonly depth: number;
}

export const JOBS: readonly Job[] = [
	{ name: "random reads of 4 KiB, depth 1", counted: "requests", rw: "randread", kib: 4, depth: 1 },
	{ name: "random writes of 4 KiB, depth 1", counted: "requests", rw: "randwrite", kib: 4, depth: 1 },
	{ name: "random reads of 4 KiB, depth 32", counted: "requests", rw: "randread", kib: 4, depth: 32 },
	{ name: "random writes of 4 KiB, depth 32", counted: "requests", rw: "randwrite", kib: 4, depth: 32 },
	{ name: "reads of 128 KiB in order, depth 4", counted: "MiB", rw: "read", kib: 128, depth: 4 },
	{ name: "writes of 128 KiB in order, depth 4", counted: "MiB", rw: "write", kib: 128, depth: 4 },
];

/** How much the guest does. */
export interface DiskWork {
	readonly jobs: readonly Job[];
	/** Seconds of each job. */
	readonly seconds: number;
	/** Ways of QEMU's I/O. */
	readonly engines: readonly ("io_uring" | "threads")[];
	/** How often each monitor's guest does it. */
	readonly rounds: number;
}

/** A job file for fio. The first second of a job does not count. */
function jobFile({ seconds, jobs }: DiskWork): string {
	const shared = [
		...["filename=/dev/vda", "direct=1", "ioengine=libaio", "thread=1", "time_based=1", "ramp_time=1"],
		...[`runtime=${seconds}`, `size=${IMAGE_MIB}M`, "norandommap=1", "gtod_reduce=1", "stonewall"],
	];
	const own = jobs.map(({ rw, kib, depth }, i) => [`[job${i}]`, `rw=${rw}`, `bs=${kib}k`, `iodepth=${depth}`]);
	return [["[global]", ...shared], ...own].map((lines) => lines.join("\n")).join("\n\n");
}

/** Fields of fio's terse report, version 3: KiB per second and requests per second of reads; those of writes come later. */
const TERSE = { name: 2, kibPerSecond: 6, perSecond: 7, toWrites: 41 };

/** What each job has reached in a second. */
function rates(jobs: readonly Job[], output: string): number[] {
	const lines = output.split("\n").map((line) => line.trim().split(";"));
	return jobs.map(({ counted, rw }, i) => {
		const line = lines.find((fields) => fields[TERSE.name] === `job${i}`);
		const field = counted === "MiB" ? TERSE.kibPerSecond : TERSE.perSecond;
		const rate = Number(line?.[field + (rw.endsWith("write") ? TERSE.toWrites : 0)]);
		if (!(rate > 0)) throw new Error(`fio has not reported job${i}:\n${output}`);
		return counted === "MiB" ? rate / 1024 : rate;
	});
}

const best = (runs: readonly number[][]): number[] => runs[0]!.map((_, i) => Math.max(...runs.map((run) => run[i]!)));

/** QEMU's disk. @param how its I/O is done */
function qemuDisk(how: string): string[] {
	return [
		...["-global", "virtio-mmio.force-legacy=off", "-object", "iothread,id=disk"],
		...["-drive", `if=none,id=image,file=${IMAGE},format=raw,cache=writeback,aio=${how}`],
		...["-device", "virtio-blk-device,drive=image,iothread=disk"],
	];
}

/** The rows of this file; brings a lab up for them, and down. */
export async function benchDisk(work: DiskWork): Promise<BenchRow[]> {
	const kernel = await benchKernel();
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const lab = await Lab.up({ name: "bench" });
	try {
		const jobs = join(directory, "jobs");
		writeFileSync(jobs, jobFile(work));
		const content = { init: "disk.c", programs: [FIO], files: { jobs }, modules: MODULES };
		writeFileSync(join(directory, "initrd"), await guestInitrd(directory, kernel, content));
		writeFileSync(join(directory, "vmlinux"), readFileSync(kernel.vmlinux));
		/* Written, so that no block of it is a hole. */
		const make = `head -c ${IMAGE_MIB}M /dev/zero >${IMAGE}`;
		await inLab(lab, `mkdir -p ${HOST} && cp ${directory}/vmlinux ${directory}/initrd ${HOST} && ${make}`, directory);
		const guest: Guest = {
			...{ kernel: `${HOST}/vmlinux`, initrd: `${HOST}/initrd`, memoryMiB: MEMORY_MIB },
			cmdline: "quiet reboot=t",
		};
		const run = async (command: readonly string[]) => rates(work.jobs, await runGuest(lab, command, directory));
		const [ours, theirs]: [number[][], number[][]] = [[], []];
		for (let round = 0; round < work.rounds; round++) {
			ours.push(await run(tsvmmCommand(guest, ["--disk", IMAGE])));
			for (const how of work.engines) theirs.push(await run(qemuCommand(guest, qemuDisk(how))));
		}
		return rows(work.jobs, best(ours), best(theirs));
	} finally {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	}
}

function rows(jobs: readonly Job[], ours: readonly number[], theirs: readonly number[]): BenchRow[] {
	return jobs.map(({ name, counted }, i) => {
		const what = counted === "MiB" ? `${name}, MiB` : name;
		return rateRow(`virtio-blk: ${what}`, ours[i]!, theirs[i]!, "QEMU microvm in the lab");
	});
}

if (process.argv[1] === import.meta.filename) {
	const work: DiskWork = { jobs: JOBS, seconds: 4, engines: ["io_uring", "threads"], rounds: 1 };
	console.log(table(await benchDisk(work)));
}

/*
 * What grows with what: the start of a machine with its RAM, vCPUs and initial RAM disk and with how many run already, and
 * the rate of a disk with its requests in flight and with the machines that have one each. Bare-metal guests; the first of
 * each series is what the others are compared with. `npm run plots` draws the rows.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { buildBareGuests } from "../guest/bare-guest.ts";
import { COUNTER, TinyKernels } from "../guest/tiny-kernel.ts";
import { BLOCK_BYTES, blockReads } from "./block-reads.ts";
import { type BenchRow, rateRow, timeRow } from "./row.ts";

/** What is measured, and at which points. */
export interface ScaleWork {
	memoryMiB: readonly number[];
	cpus: readonly number[];
	initrdMiB: readonly number[];
	/** Machines side by side. */
	machines: readonly number[];
	/** Disks in use, one of a machine each. */
	disks: readonly number[];
	/** Requests in flight. */
	depths: readonly number[];
	/** Requests of a disk. */
	requests: number;
	/** Of each point; the best counts. */
	rounds: number;
}

const MIB = 1 << 20;
/** incl [COUNTER]; then it halts. */
const ONCE = [0xff, 0x05, 0, 0, 0x80, 0x01];
const POLL_MS = 0.2;

type Shape = Partial<Pick<MachineConfig, "memoryMiB" | "cpus" | "initrd">>;
/** One point of a series: where it is, and what was measured there. */
type Point = readonly [x: number, value: number];

/** Milliseconds from the configuration to the guest's first word; the machine runs then. */
async function start(kernel: string, shape: Shape): Promise<{ machine: Machine; ms: number }> {
	const begin = performance.now();
	const machine = await Machine.create({ kernel, memoryMiB: 64, console: { kind: "none" }, ...shape });
	machine.start();
	while (machine.memory.u32(COUNTER) === 0) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
	return { machine, ms: performance.now() - begin };
}

/** The best of some rounds at each point, all points in turns. */
async function measure(
	xs: readonly number[],
	rounds: number,
	better: (...values: number[]) => number,
	at: (x: number) => Promise<number>,
): Promise<Point[]> {
	const values = new Map<number, number>();
	for (let round = 0; round < rounds; round++)
		for (const x of xs) values.set(x, better(await at(x), ...(values.has(x) ? [values.get(x)!] : [])));
	return [...values];
}

/** The rows of a series: each point against the first one. */
function rows(chart: string, named: (x: number) => string, unit: "ms" | "per second", points: Point[]): BenchRow[] {
	const [[firstX, first] = [0, 0], ...others] = points;
	const against = named(firstX);
	const plot = (x: number) => ({ chart, x, first: firstX });
	return others.map(([x, value]) => ({
		...(unit === "ms" ? timeRow(named(x), unit, value, first, against) : rateRow(named(x), value, first, against)),
		plot: plot(x),
	}));
}

/** Starts machines one after the other, and lets them run. @returns for each count the best of the last `rounds` starts */
async function startMany(kernel: string, counts: readonly number[], rounds: number): Promise<Point[]> {
	const points: Point[] = [];
	const machines: Machine[] = [];
	const times: number[] = [];
	try {
		while (machines.length < Math.max(...counts)) {
			const { machine, ms } = await start(kernel, {});
			machines.push(machine);
			times.push(ms);
			if (counts.includes(machines.length)) points.push([machines.length, Math.min(...times.slice(-rounds))]);
		}
		return points;
	} finally {
		await Promise.all(machines.map((machine) => machine.stop()));
	}
}

/** Needs /dev/kvm. About a minute. */
export async function benchScale(work: ScaleWork): Promise<BenchRow[]> {
	buildBareGuests();
	const kernels = new TinyKernels();
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const file = (name: string, sizeBytes: number) => {
		const path = join(directory, name);
		writeFileSync(path, "");
		truncateSync(path, sizeBytes);
		return path;
	};
	try {
		const kernel = kernels.write("", ONCE);
		const once = async (shape: Shape) => {
			const { machine, ms } = await start(kernel, shape);
			await machine.stop();
			return ms;
		};
		/* What the first one loads and compiles is for all of them. */
		for (let i = 0; i < 5; i++) await once({});
		const starts = (xs: readonly number[], shape: (x: number) => Shape) =>
			measure(xs, work.rounds, Math.min, (x) => once(shape(x)));
		const image = (mib: number) => ({ initrd: file(`initrd${mib}`, mib * MIB), memoryMiB: 2048 });
		const ram = await starts(work.memoryMiB, (memoryMiB) => ({ memoryMiB }));
		const cpus = await starts(work.cpus, (count) => ({ cpus: count }));
		const initrd = await starts(work.initrdMiB, image);
		const many = await startMany(kernel, work.machines, work.rounds);
		const disk = (i: number) => file(`disk${i}`, work.requests * BLOCK_BYTES);
		const depths = await measure(work.depths, work.rounds, Math.max, (depth) =>
			blockReads(disk(0), depth, work.requests),
		);
		const disks = await measure(work.disks, work.rounds, Math.max, async (count) => {
			const all = Array.from({ length: count }, (_, i) => blockReads(disk(i), 16, work.requests));
			return (await Promise.all(all)).reduce((sum, rate) => sum + rate, 0);
		});
		return [
			...rows("start-memory", (x) => `start with ${x} MiB of RAM`, "ms", ram),
			...rows("start-cpus", (x) => `start with ${x} vCPUs`, "ms", cpus),
			...rows("start-initrd", (x) => `start with an initrd of ${x} MiB`, "ms", initrd),
			...rows("start-machines", (x) => `start of machine ${x} in one process`, "ms", many),
			...rows("disk-depth", (x) => `4 KiB reads, ${x} in flight`, "per second", depths),
			...rows("disk-machines", (x) => `4 KiB reads of ${x} machines, 16 in flight each`, "per second", disks),
		];
	} finally {
		kernels.remove();
		rmSync(directory, { recursive: true });
	}
}

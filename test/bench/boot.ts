/*
 * From the start of the process to the guest's init, against QEMU's microvm machine: the same kernel, initial RAM disk,
 * kernel parameters, memory and console, both in the lab and in turns. The guest's own clock at init splits the time
 * into the monitor's part (process, machine, kernel image) and the kernel's. Guest: test/bench/init.c.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packCpio, S_IFCHR, S_IFDIR, S_IFREG } from "../../src/boot/cpio.ts";
import { packageRoot } from "../../src/host/native.ts";
import { within } from "../../src/lab/collect.ts";
import { Lab } from "../../src/lab/lab.ts";
import { benchKernel, inLab, qemuCommand, tsvmmCommand } from "./lab-host.ts";
import { type BenchRow, timeRow } from "./row.ts";

const MEMORY_MIB = 128;
const TIMEOUT_MS = 120_000;
/** In the lab: its own memory, as a host's page cache would be. */
const KERNEL = "/run/bench-vmlinux";
const INITRD = "/run/bench-initrd";

/** Milliseconds of one boot. */
interface Boot {
	/** From the start of the process to init. */
	total: number;
	/** Of them, those before the kernel's clock ran. */
	monitor: number;
	/** Of them, those after. */
	kernel: number;
}

/** An initial RAM disk with test/bench/init.c alone. */
function initrd(directory: string): Buffer {
	const init = join(directory, "init");
	execFileSync("musl-gcc", ["-static", "-Os", "-s", "-o", init, join(packageRoot(), "test/bench/init.c")]);
	return packCpio([
		{ name: "dev", mode: S_IFDIR | 0o755 },
		{ name: "dev/console", mode: S_IFCHR | 0o600, major: 5, minor: 1 },
		{ name: "init", mode: S_IFREG | 0o755, data: readFileSync(init) },
	]);
}

async function bootOnce(lab: Lab, command: readonly string[], cwd: string): Promise<Boot> {
	const start = performance.now();
	const session = await lab.spawn(command, { cwd });
	let output = "";
	session.stderr.on("data", (chunk: Buffer) => {
		output += chunk;
	});
	const times = new Promise<Boot>((resolve, reject) => {
		session.stdout.on("data", (chunk: Buffer) => {
			output += chunk;
			const marker = /@@init (\d+)@@/.exec(output);
			if (marker === null) return;
			const total = performance.now() - start;
			const kernel = Number(marker[1]) / 1000;
			resolve({ total, monitor: total - kernel, kernel });
		});
		session.stdout.on("end", () => reject(new Error(`${command.join(" ")} has not come to init:\n${output}`)));
	});
	const kill = () => session.signal(9, true);
	const boot = await within(times, TIMEOUT_MS, kill);
	await within(session.exit, TIMEOUT_MS, kill);
	return boot;
}

const median = (boots: readonly Boot[], part: keyof Boot): number =>
	boots.map((boot) => boot[part]).sort((a, b) => a - b)[boots.length >> 1]!;

/**
 * The rows of this file; needs the lab, which is brought up for it and taken down. A quarter of a minute for a pair.
 *
 * @param pairs so many boots of each
 */
export async function benchBoot({ pairs }: { pairs: number }): Promise<BenchRow[]> {
	const kernel = await benchKernel();
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	writeFileSync(join(directory, "initrd"), initrd(directory));
	const lab = await Lab.up({ name: "bench" });
	try {
		await inLab(lab, `cp ${kernel.vmlinux} ${KERNEL} && cp ${directory}/initrd ${INITRD}`, directory);
		const guest = { kernel: KERNEL, initrd: INITRD, cmdline: "quiet reboot=t", memoryMiB: MEMORY_MIB };
		const ours: Boot[] = [];
		const theirs: Boot[] = [];
		for (let pair = 0; pair <= pairs; pair++) {
			const boot = await bootOnce(lab, tsvmmCommand(guest), directory);
			const reference = await bootOnce(lab, qemuCommand(guest), directory);
			if (pair === 0) continue; /* fills the lab's caches */
			ours.push(boot);
			theirs.push(reference);
		}
		const row = (name: string, part: keyof Boot) =>
			timeRow(name, "ms", median(ours, part), median(theirs, part), "QEMU microvm in the lab");
		return [
			row(`boot to init, ${kernel.name}`, "total"),
			row("  of it before the kernel's clock", "monitor"),
			row("  of it in the kernel", "kernel"),
		];
	} finally {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	}
}

if (process.argv[1] === import.meta.filename) console.log(JSON.stringify(await benchBoot({ pairs: 4 }), null, "\t"));

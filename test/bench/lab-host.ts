/*
 * The lab as the benchmarks' host: both monitors run in it, in turns, on the same kernel and initial RAM disk.
 */

import { join } from "node:path";
import { packageRoot } from "../../src/host/native.ts";
import { type GuestKernel, listKernels } from "../../src/kernel/store.ts";
import { within } from "../../src/lab/collect.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { testKernel } from "../lab/linux.ts";

const TIMEOUT_MS = 300_000;

/** What both monitors boot. */
export interface Guest {
	readonly kernel: string;
	readonly initrd: string;
	readonly cmdline: string;
	readonly memoryMiB: number;
}

/** The kernel to boot: the minimal one if it was built, else Debian's 6.1. */
export async function benchKernel(): Promise<GuestKernel> {
	const minimal = (await listKernels()).find((kernel) => kernel.name.startsWith("minimal"));
	return minimal ?? (await testKernel("6.1-cloud"));
}

/** `tsvmm boot` of a guest. */
export function tsvmmCommand({ kernel, initrd, cmdline, memoryMiB }: Guest, more: readonly string[] = []): string[] {
	return [
		...[process.execPath, join(packageRoot(), "dist/tsvmm.js"), "boot", "--kernel", kernel, "--initrd", initrd],
		...["--cmdline", cmdline, "--memory", `${memoryMiB}M`, ...more],
	];
}

/** QEMU's microvm machine with the same guest. */
export function qemuCommand({ kernel, initrd, cmdline, memoryMiB }: Guest, more: readonly string[] = []): string[] {
	/* What tsvmm adds by itself (src/machine/cmdline.ts) is given to QEMU too. */
	const own = "console=ttyS0 panic=-1 i8042.noaux i8042.nokbd 8250.nr_uarts=1 pci=conf1,noearly";
	return [
		...["qemu-system-x86_64", "-M", "microvm,x-option-roms=off,rtc=on", "-enable-kvm", "-cpu", "host"],
		...["-m", `${memoryMiB}`, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
		...["-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", `${own} ${cmdline}`, ...more],
	];
}

/** Runs a shell script in the lab. @returns its output @throws when it fails */
export async function inLab(lab: Lab, script: string, cwd: string, timeoutMs = TIMEOUT_MS): Promise<string> {
	const { status, stdout, stderr } = await lab.exec(["sh", "-c", script], { cwd, timeoutMs });
	if (status !== 0) throw new Error(`in the lab: status ${status} of ${script}: ${stdout}${stderr}`);
	return String(stdout);
}

/** Runs a monitor to its guest's end. @returns what the guest's console showed */
export async function runGuest(lab: Lab, command: readonly string[], cwd: string): Promise<string> {
	const session = await lab.spawn(command, { cwd });
	const kill = () => session.signal(9, true);
	let output = "";
	for (const stream of [session.stdout, session.stderr]) {
		stream.on("data", (chunk: Buffer) => {
			output += chunk;
		});
	}
	await within(session.exit, TIMEOUT_MS, kill).catch((error: Error) => {
		throw new Error(`${error.message}: ${command.join(" ")}\n${output}`);
	});
	return output;
}

/*
 * The initramfs of the lab's VM: busybox, the kernel's modules, the guest agent, and the scripts init and enter of
 * guests/lab. It stays the root of the agent. The host's files are mounted on top of it.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type CpioEntry, packCpio, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from "../boot/cpio.ts";
import { run } from "../host/command.ts";
import { packageRoot } from "../host/native.ts";
import { findTool, toolMissing } from "../host/tools.ts";
import type { LabKernel } from "./kernel.ts";

const DIRECTORIES = ["bin", "dev", "proc", "sys", "run", "tmp", "modules", "files", "system", "lab"];

/** Packs the initramfs. The same inputs give the same bytes. */
export async function packInitramfs(kernel: LabKernel): Promise<Buffer> {
	const busybox = findTool("busybox");
	if (busybox === undefined) throw toolMissing("busybox");
	const scripts = join(packageRoot(), "guests/lab");
	const program = async (name: string, path: string): Promise<CpioEntry> => ({
		name,
		mode: S_IFREG | 0o755,
		data: await readFile(path),
	});
	const entries: CpioEntry[] = [
		...DIRECTORIES.map((name) => ({ name, mode: S_IFDIR | 0o755 })),
		{ name: "dev/console", mode: S_IFCHR | 0o600, major: 5, minor: 1 },
		await program("bin/busybox", busybox),
		{ name: "bin/sh", mode: S_IFLNK | 0o777, data: Buffer.from("busybox") },
		await program("init", join(scripts, "init")),
		await program("enter", join(scripts, "enter")),
		await program("agent", await buildAgent()),
	];
	for (const [index, path] of kernel.modules.entries()) {
		/* guests/lab/init loads them in the order of their names. */
		const name = `modules/${String(index).padStart(2, "0")}-${basename(path)}`;
		entries.push({ name, mode: S_IFREG | 0o644, data: await readFile(path) });
	}
	return packCpio(entries);
}

/** Path of the guest agent. In a checkout it is built first when its sources are newer. */
async function buildAgent(): Promise<string> {
	const script = join(packageRoot(), "scripts/build-agent.mjs");
	if (existsSync(script)) await run(process.execPath, [script]);
	return join(packageRoot(), "guests/out/agent");
}

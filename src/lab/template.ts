/*
 * The template: a VM that was booted once and saved just before it mounts the host's files. Every `lab up` resumes it,
 * which takes less than a second. Its name is a hash of all that it is made of, so a change of any part gives another
 * template. Old templates are removed.
 *
 *     CACHE/lab/template-HASH/vmlinux, initramfs, ram (sparse), state
 */
import { createHash } from "node:crypto";
import { link, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { explain, HostError } from "../base/errors.ts";
import { obtainDirectory } from "../host/cache-directory.ts";
import { run } from "../host/command.ts";
import { cacheDirectory } from "../host/directories.ts";
import { markUsed } from "../host/unused.ts";
import { packInitramfs } from "./initramfs.ts";
import { labKernel } from "./kernel.ts";
import { LabVm } from "./lab-vm.ts";
import { machineArguments, QEMU, Qemu, type QemuFiles, type QemuMachine } from "./qemu.ts";

/** Raise it when templates are made in another way that the hash would not show. */
const FORMAT = 2;
const BOOT_TIMEOUT_MS = 180_000;

export interface Template {
	directory: string;
	files: QemuFiles;
	/** How long it took to make, in ms; undefined when it was already there. */
	buildMs?: number;
}

function filesIn(directory: string): QemuFiles {
	return {
		vmlinux: join(directory, "vmlinux"),
		initramfs: join(directory, "initramfs"),
		ram: join(directory, "ram"),
		state: join(directory, "state"),
	};
}

/**
 * The template for VMs of this size. Makes it when it is not there.
 *
 * @param signal ends the work and removes what is not complete
 * @throws HostError when a tool or package is missing, or ERR_LAB_BOOT
 */
export async function prepareTemplate(machine: QemuMachine, signal?: AbortSignal): Promise<Template> {
	const start = performance.now();
	const kernel = await labKernel(signal);
	const initramfs = await packInitramfs(kernel);
	const { stdout: qemuVersion } = await run(QEMU, ["--version"]);
	const hash = createHash("sha256");
	hash.update(JSON.stringify([FORMAT, kernel.name, qemuVersion, machineArguments(machine.size)]));
	hash.update(initramfs);
	const cache = join(cacheDirectory(), "lab");
	const directory = join(cache, `template-${hash.digest("hex").slice(0, 16)}`);
	const build = async (partial: string) => {
		const files = filesIn(partial);
		await link(kernel.vmlinux, files.vmlinux);
		await writeFile(files.initramfs, initramfs);
		await bootAndSave(files, machine, signal);
	};
	const template = { directory, files: filesIn(directory) };
	const made = await obtainDirectory(directory, build, signal);
	await markUsed(directory);
	if (!made) return template;
	await removeOthers(cache, directory);
	return { ...template, buildMs: performance.now() - start };
}

async function bootAndSave(files: QemuFiles, machine: QemuMachine, signal: AbortSignal | undefined): Promise<void> {
	signal?.throwIfAborted();
	const ram = await open(files.ram, "wx", 0o600);
	await ram.truncate(machine.size.memoryMiB * 2 ** 20);
	await ram.close();
	const qemu = Qemu.boot(files, machine);
	const stop = () => void qemu.kill();
	signal?.addEventListener("abort", stop, { once: true });
	try {
		const vm = await LabVm.open(qemu, BOOT_TIMEOUT_MS);
		vm.close();
		await qemu.save(files.state);
	} catch (error) {
		throw new HostError("ERR_LAB_BOOT", `Cannot boot the lab's machine: ${explain(error)}\n${qemu.stderr}`.trimEnd(), {
			cause: error,
			hint: `Read what its kernel printed: ${machine.console}`,
		});
	} finally {
		signal?.removeEventListener("abort", stop);
		await qemu.kill();
	}
}

/** So many templates are kept, those that were used last. Labs of different sizes have different templates. */
const KEPT_TEMPLATES = 3;

/** Removes old templates. A lab that runs from one has its files open and goes on. */
async function removeOthers(cache: string, current: string): Promise<void> {
	const found: { path: string; mtimeMs: number }[] = [];
	for (const name of await readdir(cache)) {
		const path = join(cache, name);
		if (path === current || !name.startsWith("template-")) continue;
		const times = await stat(path).catch(() => undefined);
		if (times !== undefined) found.push({ path, mtimeMs: times.mtimeMs });
	}
	found.sort((a, b) => b.mtimeMs - a.mtimeMs);
	for (const { path } of found.slice(KEPT_TEMPLATES - 1)) await rm(path, { recursive: true, force: true });
}

/*
 * The kernel modules that the lab's machine loads, in an order in which each finds what it needs.
 */
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { HostError } from "../base/errors.ts";
import { modinfoDepends } from "../kernel/modules.ts";

/** What the lab is for: virtio devices, 9p, KVM, and networks and file systems for what is tested in it. */
export const LAB_MODULES = [
	"virtio_pci",
	// ext4 and libcrc32c ask for it by its algorithm, which no dependency says.
	"crc32c_generic",
	"virtio_console",
	"9p",
	"9pnet_virtio",
	"kvm-amd",
	// The supervisor reads XCR0 by it.
	"cpuid",
	"virtio_net",
	"virtio-rng",
	"tun",
	"bridge",
	"loop",
	"overlay",
	"ext4",
	"erofs",
	"squashfs",
	"vhost_vsock",
] as const;

/** Modules are named with dashes in files and underscores in dependencies. */
function canonical(name: string): string {
	return name.replaceAll("-", "_");
}

/** A module that is to be loaded: its name and its file's bytes. */
export interface KernelModule {
	name: string;
	data: Buffer;
}

/**
 * Reads `names` and all that they depend on, in the order in which they must be loaded.
 *
 * @param directory the kernel's modules, as in /lib/modules/VERSION/kernel
 * @throws HostError ERR_LAB_KERNEL when one is not there
 */
export async function readModules(directory: string, names: readonly string[]): Promise<KernelModule[]> {
	const files = new Map<string, string>();
	for (const entry of await readdir(directory, { recursive: true })) {
		if (entry.endsWith(".ko")) files.set(canonical(basename(entry, ".ko")), join(directory, entry));
	}
	const order = new Map<string, KernelModule>();
	const visiting = new Set<string>();
	const visit = async (wanted: string): Promise<void> => {
		const name = canonical(wanted);
		if (order.has(name) || visiting.has(name)) return;
		visiting.add(name);
		const file = files.get(name);
		if (file === undefined) {
			throw new HostError("ERR_LAB_KERNEL", `Cannot use the lab's kernel: it has no module ${wanted}`);
		}
		const data = await readFile(file);
		for (const need of modinfoDepends(data)) await visit(need);
		order.set(name, { name, data });
	};
	for (const name of names) await visit(name);
	return [...order.values()];
}

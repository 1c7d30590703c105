/*
 * The kernel of the lab's VM: Debian's stock one, taken apart once and kept in the cache as
 *
 *     lab/kernel-VERSION-MODULES/vmlinux        an ELF file: the compressed image costs seconds under emulation
 *                               /modules/NN-NAME.ko   in the order in which they are loaded
 */
import { createHash } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fetchPackage, unpackPackage } from "../debian/packages.ts";
import { obtainDirectory } from "../host/cache-directory.ts";
import { cacheDirectory } from "../host/directories.ts";
import { markUsed, removeUnused } from "../host/unused.ts";
import { PINS } from "../kernel/pins.ts";
import { extractVmlinux } from "../kernel/vmlinux.ts";
import { LAB_MODULES, readModules } from "./modules.ts";

export interface LabKernel {
	/** Directory with vmlinux and modules/. */
	directory: string;
	vmlinux: string;
}

/** The one flavour that has the modules for KVM on AMD. */
const PIN = PINS["6.1-amd64"];

/** Changes when other modules are wanted, or when the directory is made in another way (the number). */
const modulesTag = createHash("sha256").update(`2 ${LAB_MODULES.join()}`).digest("hex").slice(0, 8);

/** The kernel in the cache, fetched when it is not there. */
export async function labKernel(signal?: AbortSignal): Promise<LabKernel> {
	const cache = join(cacheDirectory(), "lab");
	const directory = join(cache, `kernel-${PIN.version}-${modulesTag}`);
	if (await obtainDirectory(directory, (partial) => fetchKernel(partial, signal), signal)) {
		await removeUnused(cache, (name) => name.startsWith("kernel-"));
	}
	await markUsed(directory);
	return { directory, vmlinux: join(directory, "vmlinux") };
}

async function fetchKernel(to: string, signal: AbortSignal | undefined): Promise<void> {
	const { package: name, version, sha256, suite } = PIN;
	const deb = await fetchPackage(name, { version, sha256, suite, ...(signal === undefined ? {} : { signal }) });
	const unpacked = join(to, "unpacked");
	await unpackPackage(deb, unpacked, signal);
	const release = name.slice("linux-image-".length);
	await extractVmlinux(join(unpacked, "boot", `vmlinuz-${release}`), join(to, "vmlinux"));
	await mkdir(join(to, "modules"));
	const modules = await readModules(join(unpacked, "lib/modules", release, "kernel"), LAB_MODULES);
	for (const [index, module] of modules.entries()) {
		await writeFile(join(to, "modules", `${String(index).padStart(2, "0")}-${module.name}.ko`), module.data);
	}
	await rm(unpacked, { recursive: true });
}

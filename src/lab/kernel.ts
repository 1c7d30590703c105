/*
 * The kernel of the lab's outer machine: Debian's stock one, taken apart once and kept in the cache as
 *
 *     lab/kernel-VERSION-MODULES/vmlinux        an ELF file: the compressed image costs seconds under emulation
 *                               /modules/NN-NAME.ko   in the order in which they are loaded
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoName } from "../base/errors.ts";
import { cacheFolder } from "../base/paths.ts";
import { fetchPackage, unpackPackage } from "../debian/packages.ts";
import { PINS } from "../kernel/pins.ts";
import { extractVmlinux } from "../kernel/vmlinux.ts";
import { LAB_MODULES, readModules } from "./modules.ts";

export interface LabKernel {
	/** Folder with vmlinux and modules/. */
	folder: string;
	vmlinux: string;
}

/** The one flavour that has the modules for KVM on AMD. */
const PIN = PINS["6.1-amd64"];

/** Changes when other modules are wanted, so that a folder in the cache is complete or not considered. */
const modulesTag = createHash("sha256").update(LAB_MODULES.join()).digest("hex").slice(0, 8);

/** The kernel in the cache, fetched when it is not there. */
export async function labKernel(signal?: AbortSignal): Promise<LabKernel> {
	const cache = join(cacheFolder(), "lab");
	const folder = join(cache, `kernel-${PIN.version}-${modulesTag}`);
	if (!existsSync(folder)) {
		await mkdir(cache, { recursive: true });
		await fetchKernel(cache, folder, signal);
	}
	return { folder, vmlinux: join(folder, "vmlinux") };
}

async function fetchKernel(cache: string, folder: string, signal: AbortSignal | undefined): Promise<void> {
	const { package: name, version, sha256, suite } = PIN;
	const deb = await fetchPackage(name, { version, sha256, suite, ...(signal === undefined ? {} : { signal }) });
	const partial = await mkdtemp(join(cache, ".kernel-"));
	try {
		const unpacked = join(partial, "unpacked");
		await unpackPackage(deb, unpacked, signal);
		const release = name.slice("linux-image-".length);
		const done = join(partial, "done");
		await mkdir(join(done, "modules"), { recursive: true });
		await extractVmlinux(join(unpacked, "boot", `vmlinuz-${release}`), join(done, "vmlinux"));
		const modules = await readModules(join(unpacked, "lib/modules", release, "kernel"), LAB_MODULES);
		for (const [index, module] of modules.entries()) {
			await writeFile(join(done, "modules", `${String(index).padStart(2, "0")}-${module.name}.ko`), module.data);
		}
		await rename(done, folder);
	} catch (error) {
		// Another process was quicker: its folder is as good.
		if (errnoName(error) !== "ENOTEMPTY" && errnoName(error) !== "EEXIST") throw error;
	} finally {
		await rm(partial, { recursive: true, force: true });
	}
}

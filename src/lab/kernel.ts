/*
 * The kernel of the lab's outer machine: Debian's stock one, taken apart once and kept in the cache as
 *
 *     lab/kernel-VERSION-MODULES/vmlinux        an ELF file: the compressed image costs seconds under emulation
 *                               /modules/NN-NAME.ko   in the order in which they are loaded
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoName, HostError } from "../base/errors.ts";
import { cacheFolder } from "../base/paths.ts";
import { describePackage, fetchPackage, unpackPackage } from "../debian/packages.ts";
import { extractVmlinux } from "../kernel/vmlinux.ts";
import { LAB_MODULES, readModules } from "./modules.ts";

/** Debian's name for "the current kernel of this release". */
const METAPACKAGE = "linux-image-amd64";

export interface LabKernel {
	/** Folder with vmlinux and modules/. */
	folder: string;
	vmlinux: string;
}

/** Changes when other modules are wanted, so that a folder in the cache is complete or not considered. */
const modulesTag = createHash("sha256").update(LAB_MODULES.join()).digest("hex").slice(0, 8);

/** The kernel in the cache, fetched when there is none. */
export async function labKernel(): Promise<LabKernel> {
	const cache = join(cacheFolder(), "lab");
	await mkdir(cache, { recursive: true });
	const found = (await readdir(cache)).filter((name) => name.startsWith("kernel-") && name.endsWith(`-${modulesTag}`));
	const newest = found.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
	const folder = newest === undefined ? await fetchKernel(cache) : join(cache, newest);
	return { folder, vmlinux: join(folder, "vmlinux") };
}

async function fetchKernel(cache: string): Promise<string> {
	const { depends } = await describePackage(METAPACKAGE);
	const name = /linux-image-[^ ,]+/.exec(depends)?.[0];
	if (name === undefined) {
		throw new HostError("ERR_LAB_KERNEL", `Cannot find the lab's kernel: ${METAPACKAGE} depends on "${depends}"`);
	}
	const deb = await fetchPackage(name);
	const { version } = await describePackage(name);
	const partial = await mkdtemp(join(cache, ".kernel-"));
	const folder = join(cache, `kernel-${version}-${modulesTag}`);
	try {
		const unpacked = join(partial, "unpacked");
		await unpackPackage(deb, unpacked);
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
	return folder;
}

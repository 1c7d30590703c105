/*
 * The guest kernels on this host. Each is a directory that is there whole or not at all (host/cache-directory.ts):
 *
 *     CACHE/kernels/NAME/kernel.json, vmlinux, vmlinux.debug, vmlinuz, config, lib/modules/RELEASE/...
 *
 * Distribution kernels come from Debian's packages (fetchKernel), our own from its source (build.ts).
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoName, explain, HostError, ImageError, UsageError } from "../base/errors.ts";
import { log } from "../base/log.ts";
import * as z from "../base/schema.ts";
import { describePackage, fetchPackage, unpackPackage } from "../debian/packages.ts";
import { isWhole, obtainDirectory } from "../host/cache-directory.ts";
import { cacheDirectory } from "../host/directories.ts";
import { modulesTag, selectModules } from "./modules.ts";
import { FLAVOURS, type Flavour, PINS } from "./pins.ts";
import { extractVmlinux } from "./vmlinux.ts";

/** A kernel that is ready to boot. All paths are absolute. */
export interface GuestKernel {
	/** Its directory's name, such as "debian-6.1.176-1-cloud-amd64-6fe163f1" or "minimal-6.1.176-3f2a9c01". */
	name: string;
	/** The Debian version of the package it comes from. */
	version: string;
	/** What `uname -r` says in the guest. */
	release: string;
	/** ELF file with a PVH entry. Symbols and line numbers of a built one are in the file vmlinux.debug beside it. */
	vmlinux: string;
	/** The bzImage it was taken from. */
	vmlinuz?: string;
	/** lib/modules/RELEASE with uncompressed modules and modules.dep; missing when everything is built in. */
	modulesDirectory?: string;
	/** The kernel's .config. */
	config?: string;
}

const Description = z.object({
	version: z.string(),
	release: z.string(),
	modules: z.boolean(),
	vmlinuz: z.boolean(),
});
type Description = z.infer<typeof Description>;

/** CACHE/kernels, made if need be. */
export async function kernelsDirectory(): Promise<string> {
	const directory = join(cacheDirectory(), "kernels");
	await mkdir(directory, { recursive: true });
	return directory;
}

/**
 * A kernel of the store by its name, or undefined. @throws ImageError ERR_KERNEL_STORE when its directory is damaged
 */
export async function findKernel(name: string): Promise<GuestKernel | undefined> {
	const directory = join(await kernelsDirectory(), name);
	let text: string;
	try {
		text = await readFile(join(directory, "kernel.json"), "utf8");
	} catch (error) {
		if (errnoName(error) === "ENOENT") return undefined;
		throw new HostError("ERR_CACHE", `Cannot read ${directory}: ${explain(error)}`, { cause: error });
	}
	let description: Description;
	try {
		description = Description.parse(JSON.parse(text));
	} catch (error) {
		throw damaged(name, directory, "its kernel.json is damaged", error);
	}
	if (!(await isWhole(directory))) throw damaged(name, directory, "files of it are missing or cut short");
	const { version, release, modules, vmlinuz } = description;
	return {
		name,
		version,
		release,
		vmlinux: join(directory, "vmlinux"),
		config: join(directory, "config"),
		...(vmlinuz ? { vmlinuz: join(directory, "vmlinuz") } : {}),
		...(modules ? { modulesDirectory: join(directory, "lib/modules", release) } : {}),
	};
}

function damaged(name: string, directory: string, found: string, cause?: unknown): ImageError {
	return new ImageError("ERR_KERNEL_STORE", `Cannot use kernel ${name}: ${found}`, {
		hint: `Remove ${directory} and fetch or build it again`,
		cause,
	});
}

/** As findKernel, but undefined for a damaged kernel. The caller takes another one or makes it again. */
export async function findWholeKernel(name: string): Promise<GuestKernel | undefined> {
	try {
		return await findKernel(name);
	} catch (error) {
		if (errnoName(error) !== "ERR_KERNEL_STORE") throw error;
		log("warn", explain(error));
		return undefined;
	}
}

/** All undamaged kernels of the store, by name. */
export async function listKernels(): Promise<GuestKernel[]> {
	const names = (await readdir(await kernelsDirectory())).filter((name) => !name.startsWith(".")).sort();
	const kernels = await Promise.all(names.map(findWholeKernel));
	return kernels.filter((kernel) => kernel !== undefined);
}

/**
 * The kernel called `name`. If it is missing or damaged, `fill` makes it in an empty directory and returns its
 * description. If several processes want the same kernel, one makes it and the others wait.
 */
export async function obtainKernel(
	name: string,
	fill: (directory: string) => Promise<Description>,
	signal?: AbortSignal,
): Promise<GuestKernel> {
	const present = await findWholeKernel(name);
	if (present !== undefined) return present;
	const describe = async (partial: string) => {
		const description = await fill(partial);
		await writeFile(join(partial, "kernel.json"), `${JSON.stringify(description, null, "\t")}\n`);
	};
	await obtainDirectory(join(await kernelsDirectory(), name), describe, signal);
	return (await findKernel(name))!;
}

export interface FetchOptions {
	/** Takes the newest package of the flavour's line instead of the pinned one. */
	latest?: boolean;
	/** Takes this Debian version instead of the pinned one. */
	version?: string;
	/** Looks in this suite instead of the flavour's own. */
	suite?: string;
	/** Called with a line for each step that takes time. */
	onStep?: (line: string) => void;
	/** Ends the work when it aborts. Nothing half-made stays. */
	signal?: AbortSignal;
}

/** The package to fetch, and its hash if it is pinned. */
async function choose(
	flavour: Flavour,
	{ latest = false, version, suite, signal }: FetchOptions,
): Promise<{ package: string; version: string; suite: string; sha256?: string }> {
	const pin = PINS[flavour];
	if (!latest && version === undefined && suite === undefined) return pin;
	const from = suite ?? pin.suite;
	const line = await describePackage(pin.line, {
		suite: from,
		...(version === undefined ? {} : { version }),
		...(signal === undefined ? {} : { signal }),
	});
	const depends = /(linux-image-[^\s,()]+) \(= ([^)]+)\)/.exec(line.depends);
	if (depends === null) {
		throw new ImageError("ERR_KERNEL_PACKAGE", `Cannot tell the kernel package of ${pin.line} ${line.version}`);
	}
	return { package: depends[1]!, version: depends[2]!, suite: from };
}

/**
 * Debian's kernel of a flavour, from the store or from Debian's mirror.
 *
 * @throws HostError ERR_KERNEL_PIN_GONE when the mirror has dropped the pinned version; those of fetchPackage
 * @example const { vmlinux } = await fetchKernel("6.1-cloud");
 */
export async function fetchKernel(flavour: Flavour, options: FetchOptions = {}): Promise<GuestKernel> {
	if (!FLAVOURS.includes(flavour)) {
		throw new UsageError("ERR_KERNEL_FLAVOUR", `Cannot fetch kernel "${flavour}": no such flavour`, {
			hint: `Choose one of ${FLAVOURS.join(", ")}`,
		});
	}
	const { signal } = options;
	const chosen = await choose(flavour, options);
	const name = `debian-${chosen.version}-${PINS[flavour].suffix}-${modulesTag}`;
	const fill = async (directory: string) => {
		options.onStep?.(`fetching ${chosen.package} ${chosen.version}`);
		const deb = await fetchPackage(chosen.package, { ...chosen, ...(signal === undefined ? {} : { signal }) }).catch(
			(error: unknown) => {
				throw errnoName(error) === "ERR_PACKAGE_NOT_FOUND" && chosen.sha256 !== undefined
					? pinGone(flavour, chosen.package, chosen.version, error)
					: error;
			},
		);
		options.onStep?.(`unpacking ${chosen.package}`);
		return await install(deb, directory, chosen.version, signal);
	};
	return await obtainKernel(name, fill, signal);
}

function pinGone(flavour: Flavour, name: string, version: string, cause: unknown): HostError {
	return new HostError("ERR_KERNEL_PIN_GONE", `Cannot fetch kernel ${name} ${version}: the mirror has dropped it`, {
		hint: `Run: tsvmm kernel fetch --flavour ${flavour} --latest`,
		cause,
	});
}

/** Takes the files that a guest needs out of a linux-image package. */
async function install(
	deb: string,
	directory: string,
	version: string,
	signal: AbortSignal | undefined,
): Promise<Description> {
	const root = join(directory, "unpacked");
	await unpackPackage(deb, root, signal);
	const boot = await readdir(join(root, "boot"));
	const image = boot.find((file) => file.startsWith("vmlinuz-"));
	if (image === undefined) throw new ImageError("ERR_KERNEL_PACKAGE", `Cannot find a kernel in ${deb}`);
	const release = image.slice("vmlinuz-".length);
	await extractVmlinux(join(root, "boot", image), join(directory, "vmlinux"));
	await copyFile(join(root, "boot", image), join(directory, "vmlinuz"));
	await copyFile(join(root, "boot", `config-${release}`), join(directory, "config"));
	const usr = (await readdir(root)).includes("lib") ? "" : "usr";
	await selectModules(join(root, usr, "lib/modules", release), join(directory, "lib/modules", release));
	await rm(root, { recursive: true, force: true });
	return { version, release, modules: true, vmlinuz: true };
}

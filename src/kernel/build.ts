/*
 * Builds our own guest kernel from Debian's linux-source package. Its configuration is allnoconfig plus
 * guests/kernel/minimal.config, so it has only the options that the fragment names. It has no modules and boots several
 * times faster than a distribution kernel. Its name in the store has a hash of the source, the fragment and the recipe.
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ImageError } from "../base/errors.ts";
import { fetchPackage, unpackPackage } from "../debian/packages.ts";
import { run } from "../host/command.ts";
import { cacheDirectory } from "../host/directories.ts";
import { withFileLock } from "../host/file-lock.ts";
import { packageRoot } from "../host/native.ts";
import { findTool, packageOf, toolMissing } from "../host/tools.ts";
import { SOURCE_PIN } from "./pins.ts";
import { type FetchOptions, fetchKernel, findWholeKernel, type GuestKernel, obtainKernel } from "./store.ts";

/** Raise it when the steps below change the result. */
const RECIPE = 2;

/** Parts of the source that this configuration never compiles; their Kconfig files are read all the same. */
const LEFT_OUT = [
	...["arch/[!xu]*/*.[chSs]", "arch/[!xu]*/*.dts*", "Documentation/*.rst", "Documentation/*.yaml", "sound/*.[ch]"],
	...["drivers/gpu/*.[ch]", "drivers/media/*.[ch]", "drivers/net/ethernet/*.[ch]", "drivers/net/wireless/*.[ch]"],
	...["tools/testing/*", "tools/perf/*"],
];

/** Lines "  CC file" and the like that make prints in all; measured, for the progress only. */
const EXPECTED_LINES = 1600;

const TOOLS = ["make", "gcc", "ld", "flex", "bison", "bc", "tar", "xz", "strip"];
const LIBELF_HEADER = "/usr/include/gelf.h";

export interface BuildProgress {
	step: "fetch" | "unpack" | "configure" | "compile" | "done";
	/** Steps of the compilation that are done, and their approximate number. */
	done: number;
	total: number;
}

function fragmentPath(): string {
	return join(packageRoot(), "guests/kernel/minimal.config");
}

/** The name of the current fragment's kernel in the store. */
export async function minimalKernelName(): Promise<string> {
	const fragment = await readFile(fragmentPath());
	const hash = createHash("sha256").update(`${RECIPE} ${SOURCE_PIN.sha256} `).update(fragment).digest("hex");
	return `minimal-${SOURCE_PIN.version.split("-")[0]}-${hash.slice(0, 8)}`;
}

/** The minimal kernel if it was built and is not damaged, else undefined. */
export async function findMinimalKernel(): Promise<GuestKernel | undefined> {
	return await findWholeKernel(await minimalKernelName());
}

/**
 * The kernel of a guest whose user names none: the minimal one if it was built here, else Debian's cloud kernel.
 *
 * @throws what fetchKernel throws
 */
export async function defaultKernel(options: Pick<FetchOptions, "onStep" | "signal"> = {}): Promise<GuestKernel> {
	return (await findMinimalKernel()) ?? (await fetchKernel("6.1-cloud", options));
}

/** The Debian packages that `kernel build` needs and this host lacks. */
export async function missingBuildPackages(): Promise<string[]> {
	const packages = TOOLS.filter((tool) => findTool(tool) === undefined).map(packageOf);
	const elf = await readFile(LIBELF_HEADER).catch(() => undefined);
	return [...packages, ...(elf === undefined ? ["libelf-dev"] : [])];
}

/**
 * The minimal kernel, built now unless the store has it.
 *
 * @throws HostError ERR_TOOL_MISSING, ERR_TOOL_FAILED; ImageError ERR_KERNEL_CONFIG; those of fetchPackage
 */
export async function buildKernel(
	options: { onProgress?: (progress: BuildProgress) => void; signal?: AbortSignal } = {},
): Promise<GuestKernel> {
	const { onProgress, signal } = options;
	const tell = (step: BuildProgress["step"], done = 0) => onProgress?.({ step, done, total: EXPECTED_LINES });
	const missing = await missingBuildPackages();
	const abort = signal === undefined ? {} : { signal };
	const fill = async (directory: string) => {
		if (missing.length > 0) throw toolMissing(missing.join(" "));
		tell("fetch");
		const deb = await fetchPackage(SOURCE_PIN.package, { ...SOURCE_PIN, ...abort });
		/* All builds use one directory, so the next build removes what an interrupted one has left. */
		const work = join(cacheDirectory(), "kernel-build");
		const build = async () => {
			await rm(work, { recursive: true, force: true });
			try {
				await compile(deb, { work, directory }, tell, signal);
			} finally {
				await rm(work, { recursive: true, force: true });
			}
			const release = `${SOURCE_PIN.version.split("-")[0]}-tsvmm`;
			return { version: SOURCE_PIN.version, release, modules: false, vmlinuz: false };
		};
		return await withFileLock(`${work}.lock`, build, signal);
	};
	const kernel = await obtainKernel(await minimalKernelName(), fill, signal);
	tell("done", EXPECTED_LINES);
	return kernel;
}

async function compile(
	deb: string,
	{ work, directory }: { work: string; directory: string },
	tell: (step: BuildProgress["step"], done?: number) => void,
	signal: AbortSignal | undefined,
): Promise<void> {
	const abort = signal === undefined ? {} : { signal };
	tell("unpack");
	const source = join(work, "linux");
	await mkdir(source, { recursive: true });
	await unpackPackage(deb, join(work, "package"), signal);
	const excludes = LEFT_OUT.map((pattern) => `--exclude=*/${pattern}`);
	const archive = join(work, "package", SOURCE_PIN.archive);
	await run("tar", ["xf", archive, "-C", source, "--strip-components=1", ...excludes], abort);
	tell("configure");
	const make = (args: string[], onLine?: (line: string) => void) =>
		run("make", ["-C", source, ...args], {
			...abort,
			...(onLine === undefined ? {} : { onLine }),
			/* The same source gives the same bytes for every user and under every make. */
			env: {
				KBUILD_BUILD_USER: "tsvmm",
				KBUILD_BUILD_HOST: "tsvmm",
				KBUILD_BUILD_TIMESTAMP: "1970-01-01",
				KCONFIG_ALLCONFIG: fragmentPath(),
				LC_ALL: "C",
				MAKEFLAGS: undefined,
				MAKELEVEL: undefined,
				/* Line numbers and unwind tables for a debugger; -g changes no code. */
				KCFLAGS: `-g1 -fdebug-prefix-map=${source}=linux`,
				ARCH: undefined,
				CROSS_COMPILE: undefined,
			},
		});
	await make(["-s", "allnoconfig"]);
	checkConfig(await readFile(fragmentPath(), "utf8"), await readFile(join(source, ".config"), "utf8"));
	let lines = 0;
	await make([`-j${availableParallelism()}`, "vmlinux"], (line) => {
		if (/^ {2}[A-Z]/.test(line)) tell("compile", Math.min(++lines, EXPECTED_LINES - 1));
	});
	const built = join(source, "vmlinux");
	await run("strip", ["-o", join(directory, "vmlinux"), built]);
	await run("strip", ["--only-keep-debug", "-o", join(directory, "vmlinux.debug"), built]);
	await copyFile(join(source, ".config"), join(directory, "config"));
}

/**
 * Compares the fragment with Kconfig's result.
 *
 * @throws ImageError ERR_KERNEL_CONFIG naming the lines that were not taken
 */
export function checkConfig(fragment: string, config: string): void {
	const lines = new Set(config.split("\n"));
	const lost = fragment.split("\n").filter((line) => {
		const off = /^# (CONFIG_\w+) is not set$/.exec(line);
		if (off !== null) return config.includes(`\n${off[1]}=`);
		return line.startsWith("CONFIG_") && !lines.has(line);
	});
	if (lost.length === 0) return;
	throw new ImageError("ERR_KERNEL_CONFIG", `Cannot configure the kernel: not taken were ${lost.join(", ")}`, {
		hint: "Mend guests/kernel/minimal.config: this version does not know these options, or they lack what they depend on",
	});
}

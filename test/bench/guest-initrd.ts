/*
 * The initial RAM disk of a benchmark's Linux guest: a C program as its init, real programs of this machine with their
 * libraries, and the modules that the kernel does not have built in.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import { type CpioEntry, packCpio, S_IFCHR, S_IFDIR, S_IFREG } from "../../src/boot/cpio.ts";
import { packageRoot } from "../../src/host/native.ts";
import { moduleLoadOrder } from "../../src/kernel/modules.ts";
import type { GuestKernel } from "../../src/kernel/store.ts";

export interface GuestContent {
	/** A source in test/bench. */
	readonly init: string;
	/** Full paths; they have the same ones in the guest. */
	readonly programs: readonly string[];
	/** Paths on this machine by names in the guest. */
	readonly files: Readonly<Record<string, string>>;
	readonly modules: readonly string[];
}

/** A program's libraries, its loader among them. */
function libraries(program: string): string[] {
	const text = execFileSync("ldd", [program], { encoding: "utf8" });
	return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
}

/** @param directory for what is built */
export async function guestInitrd(
	directory: string,
	kernel: GuestKernel,
	{ init, programs, files: given, modules }: GuestContent,
): Promise<Buffer> {
	const built = join(directory, "init");
	execFileSync("musl-gcc", ["-static", "-Os", "-s", "-o", built, join(packageRoot(), "test/bench", init)]);
	const files = new Map([["init", built], ...Object.entries(given)]);
	for (const program of programs) {
		for (const path of [program, ...libraries(program)]) files.set(path.slice(1), realpathSync(path));
	}
	const tree = kernel.modulesDirectory;
	for (const [i, module] of (tree === undefined ? [] : await moduleLoadOrder(tree, modules)).entries())
		files.set(`modules/${String(i).padStart(3, "0")}-${basename(module)}`, module);
	const directories = new Set(["dev", "proc", "share"]);
	for (const name of files.keys()) {
		for (let at = name.indexOf("/"); at > 0; at = name.indexOf("/", at + 1)) directories.add(name.slice(0, at));
	}
	const entries: CpioEntry[] = [...directories].sort().map((name) => ({ name, mode: S_IFDIR | 0o755 }));
	entries.push({ name: "dev/console", mode: S_IFCHR | 0o600, major: 5, minor: 1 });
	for (const [name, path] of files) entries.push({ name, mode: S_IFREG | 0o755, data: readFileSync(path) });
	return packCpio(entries);
}

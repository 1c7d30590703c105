/*
 * The few loadable modules of a distribution kernel that a guest (or the lab's kernel) needs: chosen by name,
 * with what they depend on, stored uncompressed so that a small init can hand them to finit_module(2) as they are.
 * Dependencies are read from each module's .modinfo section ("depends=virtio_ring,virtio"), as depmod does.
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ImageError } from "../base/errors.ts";
import { run } from "../host/command.ts";

/** Required, as modules or built in: for the root file system, the network and the connection to the agent. */
const REQUIRED = ["virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "overlay"];

/** Taken when the kernel has them. The last four lines serve the lab's kernel. */
export const WANTED: readonly string[] = [
	...REQUIRED,
	...["virtio_rng", "virtio_console", "virtio_balloon", "virtio_pci", "squashfs", "erofs", "ext4", "crc32c_generic"],
	...["crc32c_intel", "loop", "tun", "af_packet", "pvpanic_mmio", "failover", "net_failover", "fuse", "virtiofs"],
	...["9p", "9pnet", "9pnet_virtio", "netfs", "fscache", "kvm", "kvm_amd", "kvm_intel", "ccp", "irqbypass"],
	...["bridge", "veth", "dummy", "vhost_net", "vhost_vsock", "vsock_loopback", "cpuid"],
	...["sch_ingress", "cls_matchall", "act_mirred", "nf_tables", "nft_compat", "nft_chain_nat", "xt_tcpudp", "xt_nat"],
	...["xt_comment", "xt_MASQUERADE", "xt_conntrack", "xt_mark", "xt_addrtype", "xt_multiport", "xt_TPROXY"],
];

/** Part of a kernel's name in the store, so that a kernel with another choice of modules has another name. */
export const modulesTag = createHash("sha256").update(WANTED.join()).digest("hex").slice(0, 8);

/** A module's file relative to its tree, and the names of the modules that it needs. */
interface Module {
	path: string;
	depends: string[];
}

const nameOf = (path: string) =>
	path
		.slice(path.lastIndexOf("/") + 1)
		.replace(/\.ko(\.\w+)?$/, "")
		.replaceAll("-", "_");

/** Names after "depends=" in the .modinfo section of a module. */
export function modinfoDepends(module: Buffer): string[] {
	const key = "\0depends=";
	const at = module.indexOf(key, 0, "latin1");
	if (at < 0) return [];
	const text = module.toString("latin1", at + key.length, module.indexOf(0, at + 1));
	return text
		.split(",")
		.filter((name) => name !== "")
		.map((name) => name.replaceAll("-", "_"));
}

async function builtin(tree: string): Promise<Set<string>> {
	const text = await readFile(join(tree, "modules.builtin"), "utf8");
	return new Set(text.split("\n").map(nameOf));
}

/**
 * Copies the wanted modules of `tree` (a lib/modules/RELEASE directory) to the new directory `target`, with a
 * modules.dep and the list of built-in modules.
 *
 * @throws ImageError ERR_KERNEL_MODULES when the kernel lacks one that a guest cannot do without
 */
export async function selectModules(tree: string, target: string, wanted: readonly string[] = WANTED): Promise<void> {
	const files = await readdir(join(tree, "kernel"), { recursive: true });
	const paths = new Map(files.filter((f) => /\.ko(\.xz|\.zst)?$/.test(f)).map((f) => [nameOf(f), join("kernel", f)]));
	const inside = await builtin(tree);
	const missing = REQUIRED.filter((name) => wanted.includes(name) && !paths.has(name) && !inside.has(name));
	if (missing.length > 0) {
		throw new ImageError("ERR_KERNEL_MODULES", `Cannot use the kernel in ${tree}: it has no ${missing.join(", ")}`);
	}
	const taken = new Map<string, Module>();
	const take = async (name: string): Promise<void> => {
		const path = paths.get(name);
		if (path === undefined || taken.has(name)) return;
		const module: Module = { path: path.replace(/\.(xz|zst)$/, ""), depends: [] };
		taken.set(name, module);
		await copyModule(join(tree, path), join(target, path));
		module.depends = modinfoDepends(await readFile(join(target, module.path)));
		for (const other of module.depends) await take(other);
	};
	for (const name of wanted) await take(name);
	const lines = [...taken].map(([name, { path }]) => {
		const before = closure(taken, [name]).slice(0, -1);
		/* modules.dep(5) lists dependencies in reverse: the rightmost is loaded first. */
		return `${path}:${before
			.reverse()
			.map((other) => ` ${taken.get(other)!.path}`)
			.join("")}\n`;
	});
	await writeFile(join(target, "modules.dep"), lines.join(""));
	await copyFile(join(tree, "modules.builtin"), join(target, "modules.builtin"));
}

async function copyModule(from: string, to: string): Promise<void> {
	await mkdir(dirname(to), { recursive: true });
	await copyFile(from, to);
	if (to.endsWith(".xz")) await run("xz", ["-d", "-q", "-f", to]);
	if (to.endsWith(".zst")) await run("zstd", ["-d", "-q", "-f", "--rm", to]);
}

/** `names` and all modules that they need, each after those that it needs. */
function closure(modules: ReadonlyMap<string, Module>, names: readonly string[]): string[] {
	const order: string[] = [];
	const visit = (name: string) => {
		if (order.includes(name) || !modules.has(name)) return;
		for (const other of modules.get(name)!.depends) visit(other);
		if (!order.includes(name)) order.push(name);
	};
	for (const name of names) visit(name);
	return order;
}

/**
 * The files to load, in order, so that the named modules work. Names that are built in or unknown are left out.
 *
 * @param modulesDirectory GuestKernel.modulesDirectory
 * @returns absolute paths of .ko files
 */
export async function moduleLoadOrder(modulesDirectory: string, names: readonly string[]): Promise<string[]> {
	const modules = await readDependencies(modulesDirectory);
	return closure(modules, names.map(nameOf)).map((name) => join(modulesDirectory, modules.get(name)!.path));
}

/** The named modules that are neither built in nor in files. @param modulesDirectory as above */
export async function missingModules(modulesDirectory: string, names: readonly string[]): Promise<string[]> {
	const [modules, inside] = [await readDependencies(modulesDirectory), await builtin(modulesDirectory)];
	return names.filter((name) => !modules.has(nameOf(name)) && !inside.has(nameOf(name)));
}

/** modules.dep, by the modules' names. */
async function readDependencies(modulesDirectory: string): Promise<Map<string, Module>> {
	const modules = new Map<string, Module>();
	for (const line of (await readFile(join(modulesDirectory, "modules.dep"), "utf8")).split("\n")) {
		const [path, rest] = line.split(":");
		if (path === undefined || rest === undefined) continue;
		const depends = rest.split(" ").filter((other) => other !== "");
		modules.set(nameOf(path), { path, depends: depends.reverse().map(nameOf) });
	}
	return modules;
}

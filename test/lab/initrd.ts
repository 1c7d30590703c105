/*
 * The initial RAM disk of the test guests: Debian's static busybox, guests/test/init and the modules that the kernel
 * does not have built in, in the order in which to load them. The cache has it under a hash of what it is made of.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type CpioEntry, packCpio, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from "../../src/boot/cpio.ts";
import { fetchPackage, unpackPackage } from "../../src/debian/packages.ts";
import { cacheDirectory } from "../../src/host/directories.ts";
import { packageRoot } from "../../src/host/native.ts";
import { moduleLoadOrder } from "../../src/kernel/modules.ts";
import type { GuestKernel } from "../../src/kernel/store.ts";

const MODULES = [
	...[
		"virtio_mmio",
		"virtio_blk",
		"virtio_net",
		"virtio_rng",
		"virtio_console",
		"vmw_vsock_virtio_transport",
		"virtio_balloon",
	],
	...["af_packet", "ext4", "crc32c_generic", "squashfs", "overlay", "loop", "fuse", "virtiofs"],
];
const DIRECTORIES = ["bin", "dev", "mnt", "proc", "root", "run", "sys", "tmp"];

/** Debian's busybox-static, because this machine may have another busybox. */
async function busybox(): Promise<Buffer> {
	const scratch = await mkdtemp(join(tmpdir(), "busybox-"));
	try {
		await unpackPackage(await fetchPackage("busybox-static"), join(scratch, "root"));
		return await readFile(join(scratch, "root/bin/busybox"));
	} finally {
		await rm(scratch, { recursive: true, force: true });
	}
}

/** The initrd for a kernel. @param extra static programs to put into /bin, by name */
export async function testInitrd(kernel: GuestKernel, extra: Record<string, string> = {}): Promise<string> {
	const modules = kernel.modulesDirectory === undefined ? [] : await moduleLoadOrder(kernel.modulesDirectory, MODULES);
	const program = (name: string, data: Buffer): CpioEntry => ({ name, mode: S_IFREG | 0o755, data });
	const init = await readFile(join(packageRoot(), "guests/test/init"));
	const programs = await Promise.all(
		Object.entries(extra).map(async ([name, path]) => program(`bin/${name}`, await readFile(path))),
	);
	const key = createHash("sha256").update("1\0").update(init).update(kernel.name);
	for (const { name, data } of programs) key.update(`\0${name}\0`).update(data!);
	for (const module of modules) key.update(`\0${basename(module)}`);
	const directory = join(cacheDirectory(), "test-initrd");
	const path = join(directory, `${key.digest("hex").slice(0, 32)}.cpio`);
	if (existsSync(path)) return path;
	const entries: CpioEntry[] = [
		...DIRECTORIES.map((name) => ({ name, mode: S_IFDIR | 0o755 })),
		{ name: "dev/console", mode: S_IFCHR | 0o600, major: 5, minor: 1 },
		program("init", init),
		program("bin/busybox", await busybox()),
		{ name: "bin/sh", mode: S_IFLNK | 0o777, data: Buffer.from("busybox") },
		...programs,
	];
	if (modules.length > 0) {
		const order = Buffer.from(`${modules.map((module) => basename(module)).join("\n")}\n`);
		entries.push({ name: "modules", mode: S_IFDIR | 0o755 });
		entries.push({ name: "modules/order", mode: S_IFREG | 0o644, data: order });
		for (const module of modules) entries.push(program(`modules/${basename(module)}`, await readFile(module)));
	}
	await mkdir(directory, { recursive: true });
	const temporary = `${path}.${randomUUID()}`;
	try {
		await writeFile(temporary, packCpio(entries));
		await rename(temporary, path);
	} finally {
		await rm(temporary, { force: true });
	}
	return path;
}

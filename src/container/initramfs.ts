/*
 * Makes the microVM's initramfs: the guest agent as /init, busybox as its tool, and the modules that the kernel does not have built in,
 * uncompressed, with a list of their order. It is packed once per agent, kernel and list of modules, under
 * cacheDirectory()/initramfs/, and the same contents give the same bytes. Packing one removes those that were not used
 * for 30 days.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { CPIO_MAGIC, type CpioEntry, packCpio, S_IFDIR, S_IFREG } from "../boot/cpio.ts";
import { cacheDirectory } from "../host/directories.ts";
import { writeDurably } from "../host/durable-file.ts";
import { withFileLock } from "../host/file-lock.ts";
import { knownDigests } from "../host/known-digests.ts";
import { packageRoot } from "../host/native.ts";
import { markUsed, removeLeftovers, removeUnused } from "../host/unused.ts";
import { moduleLoadOrder } from "../kernel/modules.ts";
import type { GuestKernel } from "../kernel/store.ts";
import { busyboxPath } from "./busybox.ts";

/** Changes when the layout of the archive does. */
const RECIPE = "4";
/** The modules that every container needs, without those of its root file system and network. */
const MODULES = ["virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "virtio_rng", "virtio_balloon", "overlay"];

const SHARE_MODULES = ["fuse", "virtiofs"];

export interface InitramfsContents {
	kernel: Pick<GuestKernel, "name" | "modulesDirectory">;
	/** The file systems of its disks. */
	fstypes: readonly string[];
	network: boolean;
	/** Directories of the host by virtio-fs; false when missing. */
	shares?: boolean;
}

/** The agent's binary. @throws HostError ERR_AGENT_MISSING when it was not built */
export function agentPath(): string {
	const path = join(packageRoot(), "guests/out/agent");
	if (existsSync(path)) return path;
	throw new HostError("ERR_AGENT_MISSING", `Cannot find the guest agent: there is no ${path}`, {
		hint: "Build it: npm run setup; that needs musl-gcc of the Debian package musl-tools",
	});
}

/**
 * The initramfs for these contents. It is packed if it is missing or damaged.
 *
 * @throws HostError ERR_AGENT_MISSING, ERR_INITRAMFS
 */
export async function initramfs(contents: InitramfsContents): Promise<string> {
	const { kernel, fstypes, network, shares = false } = contents;
	const programs = { init: agentPath(), "tools/busybox": await busyboxPath() };
	const names = [
		...MODULES,
		...fstypes.flatMap(modulesOf),
		...(network ? ["virtio_net"] : []),
		...(shares ? SHARE_MODULES : []),
	];
	const modules = kernel.modulesDirectory === undefined ? [] : await moduleLoadOrder(kernel.modulesDirectory, names);
	const key = createHash("sha256").update(`${RECIPE}\0${kernel.name}\0${modules.map((m) => basename(m)).join("\0")}\0`);
	const directory = join(cacheDirectory(), "initramfs");
	for (const digest of await knownDigests(Object.values(programs), join(directory, "digests.json"))) key.update(digest);
	const id = key.digest("hex").slice(0, 32);
	const path = join(directory, `${id}.cpio`);
	try {
		if (!(await isWholeCpio(path))) {
			await mkdir(directory, { recursive: true });
			await withFileLock(join(directory, ".lock"), async () => {
				await removeLeftovers(directory);
				await writeDurably(path, packCpio(await entries(programs, modules)));
				await removeUnused(directory, (name) => join(directory, name) !== path);
			});
		}
		await markUsed(path);
		return path;
	} catch (error) {
		const errno = errnoName(error instanceof HostError ? error.cause : error);
		throw new HostError("ERR_INITRAMFS", `Cannot make the initramfs ${path}: ${explain(error)}`, {
			hint: errno === "EROFS" ? "Set TSVMM_CACHE to a directory that can be written" : undefined,
			cause: error,
		});
	}
}

/** True for a whole archive, from its first header to its trailer. False when the file is missing or cut short. */
async function isWholeCpio(path: string): Promise<boolean> {
	const trailer = packCpio([]);
	const handle = await open(path, "r").catch((error: unknown) => {
		if (errnoName(error) === "ENOENT") return undefined;
		throw error;
	});
	if (handle === undefined) return false;
	try {
		const { size } = await handle.stat();
		if (size < trailer.length) return false;
		const head = Buffer.alloc(CPIO_MAGIC.length);
		const tail = Buffer.alloc(trailer.length);
		await handle.read(head, 0, head.length, 0);
		await handle.read(tail, 0, tail.length, size - tail.length);
		return head.toString("latin1") === CPIO_MAGIC && tail.equals(trailer);
	} finally {
		await handle.close();
	}
}

/** ext4 asks for crc32c by name, and modules.dep does not list that. */
function modulesOf(fstype: string): string[] {
	return fstype === "ext4" ? ["crc32c_generic", "ext4"] : [fstype];
}

/** @param programs by their path in the archive */
async function entries(programs: Record<string, string>, modules: readonly string[]): Promise<CpioEntry[]> {
	const file = (name: string, data: Uint8Array, mode = 0o644): CpioEntry => ({ name, mode: S_IFREG | mode, data });
	const directory = (name: string): CpioEntry => ({ name, mode: S_IFDIR | 0o755 });
	const found = ["dev", "proc", "run", "sys", "tools"].map(directory);
	for (const [name, path] of Object.entries(programs)) found.push(file(name, await readFile(path), 0o755));
	if (modules.length === 0) return found;
	const order = modules.map((path) => `${basename(path)}\n`).join("");
	found.push(directory("modules"), file("modules/order", Buffer.from(order)));
	for (const path of modules) found.push(file(`modules/${basename(path)}`, await readFile(path)));
	return found;
}

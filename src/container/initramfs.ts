/*
 * The microVM's initial RAM disk: the guest agent as /init, and the modules that its kernel does not have built in,
 * uncompressed, with the order in which to load them. Packed by cpio, reproducibly, once per agent, kernel and choice
 * of modules, under cacheFolder()/initramfs/.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { cacheFolder } from "../base/paths.ts";
import { run } from "../host/command.ts";
import { packageRoot } from "../host/native.ts";
import { moduleLoadOrder } from "../kernel/modules.ts";
import type { GuestKernel } from "../kernel/store.ts";

/** Changes when the layout of the archive does. */
const RECIPE = "1";
/** What every container needs; the root's file system and the network come on top. */
const MODULES = ["virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "virtio_rng", "overlay"];

export interface InitramfsContents {
	kernel: Pick<GuestKernel, "name" | "modulesFolder">;
	/** File system of the root image. */
	fstype: string;
	network: boolean;
}

/** The agent's binary. @throws HostError ERR_AGENT_MISSING when it was not built */
export function agentPath(): string {
	const path = join(packageRoot(), "guests/out/agent");
	if (existsSync(path)) return path;
	throw new HostError("ERR_AGENT_MISSING", `Cannot find the guest agent: there is no ${path}`, {
		hint: "npm run setup builds it (scripts/build-agent.mjs; it takes musl-gcc from the Debian package musl-tools)",
	});
}

/**
 * The initramfs for these contents, packed if it is not there yet.
 *
 * @throws HostError ERR_AGENT_MISSING, ERR_TOOL_MISSING (cpio), ERR_INITRAMFS
 */
export async function initramfs(contents: InitramfsContents): Promise<string> {
	const { kernel, fstype, network } = contents;
	const agent = agentPath();
	const names = [...MODULES, fstype, ...(network ? ["virtio_net"] : [])];
	const modules = kernel.modulesFolder === undefined ? [] : await moduleLoadOrder(kernel.modulesFolder, names);
	const key = createHash("sha256").update(`${RECIPE}\0${kernel.name}\0${modules.map((m) => basename(m)).join("\0")}\0`);
	const id = key
		.update(await readFile(agent))
		.digest("hex")
		.slice(0, 32);
	const path = join(cacheFolder(), "initramfs", `${id}.cpio`);
	if (existsSync(path)) return path;
	const temporary = `${path}.${randomUUID()}`;
	const staging = await mkdtemp(join(tmpdir(), "tsvmm-initramfs-"));
	try {
		await mkdir(join(cacheFolder(), "initramfs"), { recursive: true });
		await pack(await stage(staging, agent, modules), staging, temporary);
		await rename(temporary, path);
		return path;
	} catch (error) {
		if (error instanceof HostError) throw error;
		throw new HostError("ERR_INITRAMFS", `Cannot make the initramfs ${path}: ${explain(error)}`, {
			hint: errnoName(error) === "EROFS" ? "Set TSVMM_CACHE to a folder that can be written" : undefined,
			cause: error,
		});
	} finally {
		await rm(temporary, { force: true });
		await rm(staging, { recursive: true, force: true });
	}
}

/** Lays the files out in `folder`; gives their names in the order of the archive. */
async function stage(folder: string, agent: string, modules: readonly string[]): Promise<string[]> {
	const names = ["dev", "proc", "run", "sys", "init"];
	for (const name of names.slice(0, -1)) await mkdir(join(folder, name), { mode: 0o755 });
	await copyFile(agent, join(folder, "init"));
	if (modules.length > 0) {
		await mkdir(join(folder, "modules"));
		await writeFile(join(folder, "modules/order"), `${modules.map((path) => basename(path)).join("\n")}\n`);
		for (const path of modules) await copyFile(path, join(folder, "modules", basename(path)));
		names.push("modules", "modules/order", ...modules.map((path) => `modules/${basename(path)}`));
	}
	/* Files first: making a file changes its folder's time. */
	for (const name of [...names].reverse()) await utimes(join(folder, name), 0, 0);
	return names;
}

async function pack(names: readonly string[], folder: string, archive: string): Promise<void> {
	const options = ["--create", "--format=newc", "--reproducible", "--owner=0:0", "--quiet", `--file=${archive}`];
	await run("cpio", options, { cwd: folder, input: `${names.join("\n")}\n` });
}

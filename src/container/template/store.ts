/*
 * Templates: snapshots of machines whose guest has booted and whose agent has begun to look for its host. A container's
 * machine that is made of one needs no boot. There is one for each kernel, initramfs and size, in the cache.
 *
 *     cacheDirectory()/templates/KEY/     a snapshot (src/snapshot)
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { cacheDirectory } from "../../host/directories.ts";
import { tsvmmVersion } from "../../host/package-version.ts";
import { type Manifest, readManifest } from "../../snapshot/manifest.ts";

/** Changes when the devices of a template do. */
const RECIPE = "2";

/** What machines of one template have in common. */
export interface TemplateShape {
	/** Path of the kernel. */
	readonly kernel: string;
	/** Path of the initramfs, whose name is that of its content. */
	readonly initrd: string;
	readonly cpus: number;
	readonly memoryMiB: number;
}

/** A template that is there. */
export interface Template {
	readonly key: string;
	readonly path: string;
	readonly manifest: Manifest;
	/** On disk. */
	readonly bytes: number;
}

/** Whether machines are made of templates; TSVMM_WARM=0 says no. */
export function mayBeWarm(): boolean {
	return process.env.TSVMM_WARM !== "0";
}

/** Whether templates are made in the background. TSVMM_WARM=use: only those that are there are used. */
export function mayPrepare(): boolean {
	return mayBeWarm() && process.env.TSVMM_WARM !== "use";
}

export function templatesDirectory(): string {
	return join(cacheDirectory(), "templates");
}

/** Where the template of such machines is, or would be. Another kernel, agent, tsvmm or processor has another one. */
export function templatePath({ kernel, initrd, cpus, memoryMiB }: TemplateShape): string {
	/* A kernel that is not there has no template; a machine that boots tells of it. */
	const { size, mtimeMs } = statSync(kernel, { throwIfNoEntry: false }) ?? {};
	const parts = [RECIPE, tsvmmVersion(), kernel, size, mtimeMs, basename(initrd), cpus, memoryMiB, processor()];
	const key = createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 20);
	return join(templatesDirectory(), key);
}

/** Whether there is one whose manifest can be read. */
export async function isTemplate(path: string): Promise<boolean> {
	return await readManifest(path).then(
		() => true,
		() => false,
	);
}

/** All templates; what cannot be read is none. */
export async function listTemplates(): Promise<Template[]> {
	const directory = templatesDirectory();
	const names = existsSync(directory) ? readdirSync(directory).filter((name) => !name.startsWith(".")) : [];
	const found = await Promise.all(
		names.map(async (key): Promise<Template[]> => {
			const path = join(directory, key);
			try {
				const manifest = await readManifest(path);
				return [{ key, path, manifest, bytes: manifest.memory.usedBytes + manifest.state.bytes }];
			} catch {
				return [];
			}
		}),
	);
	return found.flat();
}

/** Whether another version of tsvmm has made it, so that no machine is made of it. */
export function isOutdated({ manifest }: Template): boolean {
	return manifest.tsvmm !== tsvmmVersion();
}

/** Removes a template. Machines that were made of it keep what they have. */
export function removeTemplate(path: string): void {
	rmSync(path, { recursive: true, force: true });
}

function processor(): string {
	return /^model name\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
}

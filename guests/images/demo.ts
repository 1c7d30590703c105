/*
 * The images that the demo and the tests run, made from Debian's packages when the store lacks them. Two who ask at
 * once wait for one another, and the second finds it done.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { importImage } from "../../src/container/image/import.ts";
import { ImageStore } from "../../src/container/image/store.ts";
import { cacheDirectory } from "../../src/host/directories.ts";
import { withFileLock } from "../../src/host/file-lock.ts";
import { buildBusybox } from "./busybox.ts";
import { buildDebianServers } from "./debian-servers.ts";
import { buildDebianTools } from "./debian-tools.ts";

export type DemoImage = "busybox" | "debian-tools" | "debian-servers";

const RECIPES: Record<DemoImage, (directory: string, scratch: string, say?: (line: string) => void) => Promise<void>> =
	{
		busybox: buildBusybox,
		"debian-tools": buildDebianTools,
		"debian-servers": buildDebianServers,
	};

/** The images that there is a recipe for. */
export const DEMO_IMAGES = Object.keys(RECIPES) as DemoImage[];

export interface DemoOptions {
	store?: ImageStore;
	/** Hears what the tools say while a build takes its time. */
	say?: (line: string) => void;
}

/**
 * Makes sure that the store has a demo image.
 *
 * @returns its reference, "busybox:latest"
 * @example await ensureDemoImage("busybox"); // then: tsvmm run busybox echo hello
 */
export async function ensureDemoImage(name: DemoImage, options: DemoOptions = {}): Promise<string> {
	const store = options.store ?? new ImageStore();
	const reference = `${name}:latest`;
	if (store.has(reference)) return reference;
	return withFileLock(join(cacheDirectory(), `demo-${name}.lock`), async () => {
		if (store.has(reference)) return reference;
		/* What an interrupted call has left is found and removed by the next. */
		const scratch = join(cacheDirectory(), `.demo-${name}`);
		await rm(scratch, { recursive: true, force: true });
		await mkdir(scratch);
		try {
			const layout = join(scratch, "layout");
			await RECIPES[name](layout, scratch, options.say);
			await importImage(store, layout, { name: reference });
		} finally {
			await rm(scratch, { recursive: true, force: true });
		}
		return reference;
	});
}

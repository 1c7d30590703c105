/*
 * Bundles for tests: a config.json on a root file system with a shell in it.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_CONFIG } from "../../src/cli/oci/spec.ts";

export type Json = Record<string, unknown>;

/** The default configuration, without a terminal. */
export function defaultConfig(): Json & { process: Json } {
	const config = structuredClone(DEFAULT_CONFIG) as unknown as Json & { process: Json };
	config.process.terminal = false;
	return config;
}

export class TestBundle implements Disposable {
	readonly path = mkdtempSync(join(tmpdir(), "tsvmm-bundle-"));

	/** @param config an object, or the text of config.json; no file when undefined */
	constructor(config: unknown) {
		const bin = join(this.path, "rootfs/bin");
		mkdirSync(bin, { recursive: true });
		writeFileSync(join(bin, "busybox"), "#!/bin/nothing\n");
		chmodSync(join(bin, "busybox"), 0o755);
		symlinkSync("busybox", join(bin, "sh"));
		if (config === undefined) return;
		writeFileSync(join(this.path, "config.json"), typeof config === "string" ? config : JSON.stringify(config));
	}

	[Symbol.dispose](): void {
		rmSync(this.path, { recursive: true, force: true });
	}
}

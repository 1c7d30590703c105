/*
 * What containerd needs of this machine before a lab is up: the image, and our programs.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { ensureDemoImage } from "../../../guests/images/demo.ts";
import { packageRoot } from "../../../src/host/native.ts";

/** @returns the image's name in tsvmm's store */
export async function prepareShim(): Promise<string> {
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-stand-in.mjs")]);
	return await ensureDemoImage("busybox");
}

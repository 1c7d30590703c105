/*
 * Debian's qemu-img (qemu-utils), which makes and judges the images of these tests.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";

/** @throws Error with what it has printed when it fails */
export function qemuImg(...args: string[]): string {
	return execFileSync("qemu-img", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** What the guest would find in an image. */
export function contentOf(path: string): Uint8Array {
	const raw = `${path}.raw`;
	qemuImg("convert", "-f", "qcow2", "-O", "raw", path, raw);
	const bytes = readFileSync(raw);
	rmSync(raw);
	return bytes;
}

/** What `qemu-img check` finds. */
export function check(path: string): { corruptions: number; leaks: number } {
	let output: string;
	try {
		output = qemuImg("check", "-f", "qcow2", "--output=json", path);
	} catch (error) {
		/* It ends with status 2 or 3 when it has found something. */
		output = (error as { stdout: string }).stdout;
		if (!output.startsWith("{")) throw error;
	}
	const { corruptions = 0, leaks = 0, "check-errors": errors = 0 } = JSON.parse(output) as Record<string, number>;
	return { corruptions: corruptions + errors, leaks };
}

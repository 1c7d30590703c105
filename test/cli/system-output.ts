/*
 * `tsvmm system` in this process.
 */
import { vi } from "vitest";
import { systemCommand } from "../../src/cli/system.ts";

/** Runs one command line. @returns its output */
export async function system(...args: string[]): Promise<string> {
	const written: string[] = [];
	const output = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
		written.push(String(text));
		return true;
	});
	try {
		await systemCommand().parseAsync(args, { from: "user" });
	} finally {
		output.mockRestore();
	}
	return written.join("");
}

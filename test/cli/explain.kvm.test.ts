/*
 * `tsvmm boot --explain` of guests of a few instructions, on the real command line.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { elfImage } from "../boot/images.ts";
import { outb, TRIPLE_FAULT } from "../guest/tiny-kernel.ts";
import { bundle, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

const BASE = 0x100_000;
const CLI_HLT = [0xfa, 0xf4];

const kernel = (code: readonly number[]) => (directory: string) =>
	writeFileSync(join(directory, "k"), elfImage({ paddr: BASE, code: Buffer.from(code), pvhEntry: BASE }));

const boot = (code: readonly number[], ...flags: string[]) =>
	tsvmm(["boot", "--kernel", "k", "--memory", "64M", ...flags], {
		prepare: kernel(code),
	});

test("boot --explain says at the end why a guest has failed", async () => {
	const { stderr, status } = await boot([...outb(0x3f8, 0x41), ...TRIPLE_FAULT], "--explain");
	expect(stderr).toMatch(/^k, 1 vCPU, 64 MiB; .* triple-fault/m);
	expect(stderr).toMatch(/^ {2}1\. .*\[triple-fault\]$/m);
	expect(stderr).toContain("The console's last lines\n  A\n");
	expect(status).not.toBe(0);
});

test("boot --explain sees a guest that is also recorded", async () => {
	const { stderr, left } = await boot([...outb(0x3f8, 0x41), ...TRIPLE_FAULT], "--explain", "--record", "r");
	expect(stderr).toMatch(/\[triple-fault\]/);
	expect(left).toContain("r");
});

test("boot --explain SECONDS says where a silent guest stands, and the guest stays as it is", async () => {
	const { stderr } = await tsvmm(["boot", "--kernel", "k", "--memory", "64M", "--explain", "1"], {
		prepare: kernel(CLI_HLT),
		onOutput: (_, seen, kill) => {
			if (seen.includes("[halted-for-good]")) kill("SIGTERM");
		},
	});
	expect(stderr.split("[halted-for-good]")).toHaveLength(3);
});

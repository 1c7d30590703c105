/*
 * A guest breaks the lab: it changes XCR0, and QEMU changes the XCR0 of the lab's VM. The supervisor notices it. The
 * next command brings the lab up again and says so.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";
import { Linux } from "./linux.ts";

const NAME = "broken";
const BUNDLE = join(packageRoot(), "dist/tsvmm.js");
const LINE = "tsvmm: the lab did not run programs any more (a guest has changed XCR0); restarted\n";
let linux: Linux;
let kernel: string;

beforeAll(async () => {
	linux = await Linux.up(NAME);
	kernel = join(linux.directory, "xcr0");
	const link = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0x1000000"];
	execFileSync("gcc", [...link, join(import.meta.dirname, "xcr0.S"), "-o", kernel]);
});
afterAll(async () => {
	await linux?.down();
});

/** tsvmm may lose AVX, the contents of registers, or the whole lab, so it may end in any way. */
async function breakLab(lab: Lab): Promise<void> {
	await lab.exec([process.execPath, BUNDLE, "boot", "--kernel", kernel]).catch(() => undefined);
	lab.close();
}

function tsvmm(...args: string[]): { status: number | null; stdout: string; stderr: string } {
	const { status, stdout, stderr } = spawnSync(process.execPath, [BUNDLE, ...args], { encoding: "utf8" });
	return { status, stdout, stderr };
}

describe("a lab whose XCR0 a guest has changed", () => {
	let lab: Lab;
	beforeEach(async () => {
		lab = await Lab.up({ name: NAME });
	});

	test("is ended by its supervisor, which says why; the next command restarts it and says so once", async () => {
		await breakLab(lab);
		await vi.waitFor(async () => expect((await Lab.status(NAME)).state).toBe("down"), { timeout: 60_000 });
		const { stdout } = tsvmm("lab", "status", "--name", NAME);
		expect(stdout).toBe(`lab ${NAME}: down: it did not run programs any more (a guest has changed XCR0)\n`);

		const command = ["lab", "exec", "--name", NAME, "--", "echo", "works"];
		expect(tsvmm(...command)).toEqual({ status: 0, stdout: "works\n", stderr: LINE });
		expect(tsvmm(...command)).toEqual({ status: 0, stdout: "works\n", stderr: "" });
	});

	test("is restarted by a command that comes at once", async () => {
		await breakLab(lab);
		const found = tsvmm("lab", "exec", "--name", NAME, "--", "echo", "works");
		expect(found).toEqual({ status: 0, stdout: "works\n", stderr: LINE });
	});
});

describe("Lab.up", () => {
	test("up tells why it restarts a lab, and leaves one that works alone", async () => {
		const restarts: string[] = [];
		const onRestart = (why: string) => restarts.push(why);
		const lab = await Lab.up({ name: NAME, onRestart });
		const { record } = await Lab.status(NAME);
		expect(restarts).toEqual([]);
		await breakLab(lab);
		(await Lab.up({ name: NAME, onRestart })).close();
		expect(restarts).toEqual(["did not run programs any more (a guest has changed XCR0)"]);
		expect((await Lab.status(NAME)).record?.pid).not.toBe(record?.pid);
	});
});

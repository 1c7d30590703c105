/*
 * From `tsvmm device new` by `boot --device --record` to `replay` and `device test`, by the real command line, with a kernel
 * of some instructions.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { BUFFERS, powerOff, print, request, startDevice, text, writeKernel } from "../../docs/examples/kernel.ts";
import { bundle, expectError, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
const directory = mkdtempSync(join(tmpdir(), "tsvmm-replay-"));
const path = (name: string) => join(directory, name);
const [kernel, device, recording] = [path("kernel"), path("echo.ts"), path("echo.jsonl")];
const ANSWER = BUFFERS + 0x1000;

beforeAll(async () => {
	bundle();
	await tsvmm(["device", "new", "echo", "--dir", directory]);
	const ask = request(0, [
		{ address: BUFFERS, lengthBytes: 8 },
		{ address: ANSWER, lengthBytes: 8, write: true },
	]);
	writeKernel(kernel, text(BUFFERS, "desserts"), startDevice(), ask, print(ANSWER, 8), powerOff());
	const words = ["boot", "--kernel", kernel, "--device", device, "--record", recording];
	const { status, stdout } = await tsvmm(words);
	expect([status, stdout]).toEqual([0, "stressed"]);
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

test("boot --record writes the request and its answer, and the file is its owner's alone to change", () => {
	const [header, ...events] = readFileSync(recording, "utf8")
		.trimEnd()
		.split("\n")
		.map((line) => JSON.parse(line));
	expect(header).toMatchObject({ format: "tsvmm-recording", devices: [{ deviceId: 63 }] });
	const base64 = (bytes: string) => Buffer.from(bytes).toString("base64");
	expect(events).toContainEqual(
		expect.objectContaining({ kind: "pop", readable: [base64("desserts")], writable: [8] }),
	);
	expect(events).toContainEqual(expect.objectContaining({ kind: "push", written: 8, data: base64("stressed") }));
});

test("replay finds no difference to the device that was recorded", async () => {
	const { status, stdout, stderr } = await tsvmm(["replay", recording, "--device", device]);
	expect(stderr).toBe("");
	expect(stdout).toMatch(/^echo: \d+ events, 1 requests, no differences, \d+ ms\n$/);
	expect(status).toBe(0);
});

test("replay tells in what another device differs, by its status too", async () => {
	writeFileSync(path("other.ts"), readFileSync(device, "utf8").replace("text.reverse()", "text"));
	const { status, stdout } = await tsvmm(["replay", recording, "--device", path("other.ts"), "--as", "echo"]);
	expect(stdout).toMatch(/^event \d+: byte 0 of the answer to the request of event \d+ is 0x64, recorded is 0x73$/m);
	expect(stdout).toMatch(/^echo: \d+ events, 1 requests, 1 differences, /m);
	expect(status).toBe(1);
});

test("replay of a device that the recording does not have names those that it has", async () => {
	expectError(
		await tsvmm(["replay", recording, "--device", device, "--as", "rng"]),
		"ERR_RECORDING",
		'Cannot replay the recording: it has no device "rng"',
		"Name one by --as: the recording has echo (type 63)",
	);
});

test("device test plays the recording that lies beside the device", async () => {
	const { status, stdout } = await tsvmm(["device", "test", device]);
	expect(stdout).toMatch(/3 tests, all passed, \d+ ms\necho: \d+ events, 1 requests, no differences, \d+ ms\n$/);
	expect(status).toBe(0);
});

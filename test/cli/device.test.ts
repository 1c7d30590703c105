/*
 * `tsvmm device new` and `tsvmm device test`, by the real command line: the skeleton's tests pass, and a device, a test or a
 * file that is wrong is told with its place.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, expectError, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
const directory = mkdtempSync(join(tmpdir(), "tsvmm-device-"));
const device = join(directory, "my-device.ts");
const tests = join(directory, "my-device.test.ts");

beforeAll(async () => {
	bundle();
	const { status, stdout } = await tsvmm(["device", "new", "my-device", "--dir", directory]);
	expect([status, stdout]).toEqual([0, `${device}\n${tests}\n`]);
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

/** A copy of the skeleton, with texts of the device or of its tests replaced. */
function copy(name: string, ...edits: readonly (readonly [from: string, to: string])[]): string {
	for (const ending of [".ts", ".test.ts"]) {
		let text = readFileSync(join(directory, `my-device${ending}`), "utf8").replaceAll("./my-device.ts", `./${name}.ts`);
		for (const [from, to] of edits) text = text.replace(from, () => to);
		writeFileSync(join(directory, `${name}${ending}`), text);
	}
	return join(directory, `${name}.ts`);
}

test.each([device, tests])("the skeleton's tests pass: device test %s", async (path) => {
	const { status, stdout, stderr } = await tsvmm(["device", "test", path]);
	expect(stderr).toBe("");
	expect(stdout.replace(/\d+ ms/, "N ms")).toBe(
		`✓ a text comes back backwards\n✓ an answer fills no more than its buffer\n✓ after a reset it answers again\n${tests}: 3 tests, all passed, N ms\n`,
	);
	expect(status).toBe(0);
});

test("a failure says what was expected, and where", async () => {
	const path = copy("straight", ["text.reverse()", "text"]);
	const { status, stdout } = await tsvmm(["device", "test", path]);
	expect(stdout).toMatch(/^✗ a text comes back backwards\n {4}AssertionError: .*/m);
	expect(stdout).toContain("straight.test.ts:14: assert.deepEqual([written, String(data)]");
	expect(stdout).toMatch(/3 tests, 3 failed, \d+ ms\n$/);
	expect(status).toBe(1);
});

test.each([
	[
		"throws in notify",
		"this.#queue?.flush();",
		'throw new Error("oh");',
		/Error: oh\n {6}.*\/throws-in-notify\.ts:\d+: throw/,
	],
	[
		"throws in activate",
		"this.#queue = queues[0];",
		'throw new Error("ah");',
		/Error: ah\n {6}.*\/throws-in-activate\.ts:\d+: throw/,
	],
	["does not flush", "this.#queue?.flush();", "", /Error: the request at queue 0 was not answered within 2 seconds/],
	[
		"throws later",
		"this.#queue?.flush();",
		'setTimeout(() => { throw new Error("late"); }, 1);',
		/Error: late\n {6}.*\/throws-later\.ts:\d+/,
	],
	["has no queue that can be", "queueSizes = [16]", "queueSizes = []", /there is no queue 0: the device has 0/],
])("a device that %s", async (what, from, to, message) => {
	const { status, stdout } = await tsvmm(["device", "test", copy(what.replaceAll(" ", "-"), [from, to])]);
	expect(stdout).toMatch(message);
	expect(status).toBe(1);
});

test("what is no test is refused", async () => {
	const [lost, empty] = [join(directory, "lost.ts"), join(directory, "empty.test.ts")];
	expectError(
		await tsvmm(["device", "test", lost]),
		"ERR_DEVICE_TEST",
		`Cannot test ${lost}: there is no ${directory}/lost.test.ts and no ${directory}/lost.jsonl`,
		`Write tests (tsvmm device new NAME makes some), or record a guest: tsvmm boot --device ${lost} --record ${directory}/lost.jsonl`,
	);
	writeFileSync(empty, "export default {};");
	const { stderr } = await tsvmm(["device", "test", empty]);
	expect(stderr).toContain(`Cannot test by ${empty}: its default export holds no tests [ERR_DEVICE_TEST]`);
	writeFileSync(empty, "export default {\n\tx: (\n");
	expect((await tsvmm(["device", "test", empty])).stderr).toMatch(
		/Cannot load tests .*SyntaxError: .*\[ERR_DEVICE_FILE\]/s,
	);
});

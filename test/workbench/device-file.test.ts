/* Devices in files: what may be exported, what is refused, and where an error is. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseDeviceFile } from "../../src/cli/device-files.ts";
import { PACKAGE_MODULES } from "../../src/package-modules.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { defectOf } from "../../src/workbench/defect.ts";
import { DeviceFile } from "../../src/workbench/device-file.ts";
import { bundle } from "../cli/tsvmm.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-device-file-"));
const path = join(directory, "device.ts");
beforeAll(bundle, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

function load(text: string, options: Record<string, string> = {}) {
	writeFileSync(path, text);
	return new DeviceFile({ path, watched: true, options }, PACKAGE_MODULES).load();
}
const RNG = 'import { RngDevice } from "tsvmm/virtio";\n';

test.each([
	["a class", "export default class extends RngDevice { constructor({ name }: { name: string }) { super(name); } }"],
	["a function", "export default ({ name }: { name: string }) => new RngDevice(name);"],
	["an async function", "export default async function (o: { name: string }) { return new RngDevice(o.name); }"],
	["a device", 'export default new RngDevice("given");'],
])("the default export may be %s, with the options of the command line", async (_, text) => {
	const device = await load(RNG + text, { name: "given" });
	expect(device).toBeInstanceOf(RngDevice);
	expect(device.name).toBe("given");
});

test.each([
	["", "it has no default export that is or makes a device"],
	["export default 3;", "it has no default export that is or makes a device"],
	["export default () => undefined;", "it has no default export that is or makes a device"],
	["export default {};", "its name is no text"],
	["deviceId = 0", "its deviceId is 0, and a number from 1 up is wanted"],
	["features = 0", "its features are 0, and a bigint such as 0n is wanted"],
	["queueSizes = [10]", "its queueSizes are [10], and a list of powers of two up to 1024 is wanted"],
	["queueSizes = []", "its queueSizes are [], and a list of powers of two up to 1024 is wanted"],
	["config = [1]", "its config is no Uint8Array"],
	["notify = 1", "it has no method notify"],
])("a file with %j is no device", async (change, message) => {
	const text = `export default class extends RngDevice { constructor() { super("x"); } ${change} as any; }`;
	const file = change.startsWith("export") || change === "" ? change : RNG + text;
	await expect(load(file)).rejects.toThrow(
		expect.objectContaining({ code: "ERR_DEVICE_CONTRACT", message: `Cannot use ${path} as a device: ${message}` }),
	);
});

test.each([
	["const a: number = ;", /SyntaxError: Unexpected token, at .*device\.ts:2: const a: number = ;$/],
	["foo();\nexport default 1;", /ReferenceError: foo is not defined, at .*device\.ts:2: foo\(\);$/],
	["import { Nothing } from 'tsvmm/virtio'; new Nothing();", /SyntaxError: .*Nothing.*, at .*device\.ts:2: import/],
	["export default class { constructor() { null!.x; } }", /TypeError: .*, at .*device\.ts:2: export default class/],
	["import './no-such.ts';", /Cannot find module .*no-such\.ts/],
])("an error in a file is told with its line: %j", async (text, message) => {
	await expect(load(`/* first line */\n${text}`)).rejects.toThrow(
		expect.objectContaining({ code: "ERR_DEVICE_FILE", message: expect.stringMatching(message) }),
	);
});

test("a file that is not there, and a directory, are refused at once", () => {
	for (const no of [join(directory, "none.ts"), directory]) {
		expect(() => new DeviceFile({ path: no, watched: true, options: {} }, {})).toThrow(
			expect.objectContaining({ code: "ERR_DEVICE_FILE" }),
		);
	}
});

test("an error from elsewhere has no place in the files", () => {
	expect(defectOf(new Error("x"), [path])).toEqual({ what: "Error: x" });
	expect(defectOf("x", [path])).toEqual({ what: "x" });
});

test.each([
	["a.ts", { path: "a.ts", id: undefined, watched: true, options: {} }],
	["a,,b.ts,id=x,watch=off,size=3", { path: "a,b.ts", id: "x", watched: false, options: { size: "3" } }],
])("parseDeviceFile reads %s", (text, wanted) => {
	expect(parseDeviceFile(text)).toEqual(wanted);
});

test.each([
	["", /it has no path$/],
	["a.ts,ro", /"ro" is no KEY=VALUE$/],
	["a.ts,watch=no", /watch is on or off, and not "no"$/],
])("parseDeviceFile refuses %j", (text, message) => {
	expect(() => parseDeviceFile(text)).toThrow(
		expect.objectContaining({ code: "ERR_OPTION_DEVICE", message: expect.stringMatching(message) }),
	);
});

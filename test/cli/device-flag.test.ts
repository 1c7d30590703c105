/*
 * --device: what the flag says, and what can be a disk.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readDeviceFlag } from "../../src/cli/container/device-flag.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-device-"));
const disk = join(directory, "disk");
writeFileSync(disk, "");
afterAll(() => rmSync(directory, { recursive: true }));

test.each([
	["", { target: disk, readOnly: false }],
	[":r", { target: disk, readOnly: true }],
	[":rw", { target: disk, readOnly: false }],
	[":/dev/xvda", { target: "/dev/xvda", readOnly: false }],
	[":/dev/xvda:r", { target: "/dev/xvda", readOnly: true }],
	[":/dev/xvda:rwm", { target: "/dev/xvda", readOnly: false }],
])("readDeviceFlag reads HOST%s", (rest, wanted) => {
	expect(readDeviceFlag(`${disk}${rest}`)).toEqual({ source: disk, ...wanted });
});

test.each([
	["", /Cannot read device ""/],
	[`${disk}:relative`, /Cannot read device/],
	[`${disk}:/dev/x:rwx`, /Cannot read device/],
	[`${disk}:/dev/`, /Cannot read device/],
	[`${disk}:/a:/b:r`, /Cannot read device/],
	["/no/such", /device \/no\/such: no such file or directory/],
	["/dev/null", /device \/dev\/null: it is neither a block device nor a file/],
	[directory, /it is a directory$/],
])("readDeviceFlag refuses %j", (text, message) => {
	expect(() => readDeviceFlag(text)).toThrow(
		expect.objectContaining({ code: "ERR_RUN_DEVICE", message: expect.stringMatching(message) }),
	);
});

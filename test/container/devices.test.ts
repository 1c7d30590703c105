import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { deviceDisks, diskSteps } from "../../src/container/devices.ts";

const directory = mkdtempSync(join(tmpdir(), "devices-"));
afterAll(() => rmSync(directory, { recursive: true }));
const [data, gone] = [join(directory, "data"), join(directory, "gone")];
writeFileSync(data, "");
chownSync(data, 7, 8);
chmodSync(data, 0o640);
const devices = [
	{ source: data, target: "/dev/xvda" },
	{ source: gone, target: "/dev/xvdb", readOnly: true },
];

test("each device is a disk, whose node has the mode and owner of the host's file", () => {
	expect(deviceDisks(devices)).toEqual([
		{ path: data, format: "raw", readOnly: false, id: "device0" },
		{ path: gone, format: "raw", readOnly: true, id: "device1" },
	]);
	expect(diskSteps(devices)).toEqual([
		["disk", "/dev/xvda\t640\t7:8\tdevice0"],
		["disk", "/dev/xvdb\t0\t0:0\tdevice1"],
	]);
});

test("those of a container that joins others have serial numbers of their own, which fit", () => {
	const ids = deviceDisks(devices, "0123456789ab").map(({ id }) => id);
	expect(ids).toEqual(["d0-0123456789ab", "d1-0123456789ab"]);
	expect(diskSteps(devices, "0123456789ab").map(([, fields]) => fields.split("\t").at(-1))).toEqual(ids);
});

import { expect, test } from "vitest";
import { DEVICE_KINDS, type DeviceFields, type FieldsOf } from "../../src/machine/device-table.ts";
import { codeOf, filesOf } from "../rules/sources.ts";
import { type EchoFields, echoKind } from "./echo-kind.ts";

/** The files of src that a pattern is found in. The public entries export what they want; flags are the command line's. */
function filesWith(pattern: RegExp): string[] {
	return filesOf("src", /\.ts$/)
		.filter((path) => !/^src\/(?:\w+\.ts$|cli\/)/.test(path))
		.filter((path) => pattern.test(codeOf(path)));
}

test("a kind of device is one file and a line of the table: nothing else knows of it", () => {
	const table = "src/machine/device-table.ts";
	expect(filesWith(/\brngKind\b|\bRngDevice\b|\bRngFields\b|\bVIRTIO_ID_RNG\b/)).toEqual([table, "src/virtio/rng.ts"]);
	expect(filesWith(/\bconsoleKind\b|\bConsoleDevice\b|\bvirtioConsole\b/)).toEqual([table, "src/virtio/console.ts"]);
	/* Networks are added to machines that are made of a template. */
	const template = "src/container/template/restore.ts";
	const nets = filesWith(/\bnetKind\b|\bNetDevice\b/).filter((path) => path !== template);
	expect(nets).toEqual([table, "src/machine/devices/net.ts", "src/virtio/net.ts"]);
});

test("the fields of a configuration are those of all kinds in the table", () => {
	const fields: Required<FieldsOf<readonly [...typeof DEVICE_KINDS, typeof echoKind]>> = {
		disks: [],
		nets: [],
		fs: [],
		vsock: undefined,
		rng: true,
		balloon: {},
		virtioConsole: true,
		devices: [],
		echo: true,
	};
	const withEcho: DeviceFields & EchoFields = fields;
	const ids = [...DEVICE_KINDS, echoKind].flatMap((kind) => kind.plan(withEcho, { cpus: 1 })).map(({ id }) => id);
	expect(ids).toEqual(["rng", "console", "balloon", "echo"]);
});

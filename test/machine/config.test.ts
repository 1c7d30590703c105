import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { completeConfig, deviceIds, type MachineConfig } from "../../src/machine/config.ts";
import { RngDevice } from "../../src/virtio/rng.ts";

const kernel = "vmlinux";
const refused = (config: Partial<MachineConfig>) => {
	try {
		completeConfig({ kernel, ...config });
	} catch (error) {
		return (error as { code?: string }).code;
	}
	return undefined;
};

test("completeConfig fills in what is missing", () => {
	expect(completeConfig({ kernel })).toEqual({
		kernel,
		cpus: 1,
		memoryMiB: 256,
		disks: [],
		nets: [],
		vsock: undefined,
		rng: false,
		virtioConsole: false,
		console: { kind: "none" },
		devices: [],
		trace: [],
	});
	expect(completeConfig({ kernel, vsock: {} }).vsock?.cid).toBe(3);
});

test("completeConfig keeps no part of what it was given", () => {
	const disks = [{ path: "a", id: "a" }];
	const complete = completeConfig({ kernel, disks });
	disks[0]!.id = "b";
	disks.push({ path: "c", id: "c" });
	expect(complete.disks).toEqual([{ path: "a", id: "a" }]);
});

test("deviceIds are in the order in which the guest finds the devices", () => {
	const backend = new MemoryDisk(512);
	const config: MachineConfig = {
		kernel,
		disks: [{ path: "a" }, { backend, id: "root" }],
		nets: [{ kind: "user" }, { kind: "tap", name: "tap0", id: "wan" }],
		vsock: {},
		rng: true,
		virtioConsole: true,
		devices: [new RngDevice("lava")],
	};
	const ids = ["disk0", "root", "net0", "wan", "vsock", "rng", "console", "lava"];
	expect(deviceIds(completeConfig(config))).toEqual(ids);
});

test.each<[string, string, Partial<MachineConfig>]>([
	["no kernel", "ERR_CONFIG_KERNEL", { kernel: "" }],
	[
		"a disk id that another disk has by position",
		"ERR_CONFIG_ID",
		{ disks: [{ path: "a", id: "disk1" }, { path: "b" }] },
	],
	[
		"an id for a disk and a net",
		"ERR_CONFIG_ID",
		{ disks: [{ path: "a", id: "x" }], nets: [{ kind: "user", id: "x" }] },
	],
	["a device of one's own that is called as ours", "ERR_CONFIG_ID", { rng: true, devices: [new RngDevice("rng")] }],
	["an empty id", "ERR_CONFIG_ID", { disks: [{ path: "a", id: "" }] }],
	["an id with a slash", "ERR_CONFIG_ID", { disks: [{ path: "a", id: "a/b" }] }],
	["a disk id of 21 bytes", "ERR_CONFIG_DISK", { disks: [{ path: "a", id: "x".repeat(21) }] }],
	["a MAC address of zeroes", "ERR_CONFIG_NET", { nets: [{ kind: "user", mac: "00:00:00:00:00:00" }] }],
	["a multicast MAC address", "ERR_CONFIG_NET", { nets: [{ kind: "user", mac: "01:00:00:00:00:00" }] }],
	["a cid of the host", "ERR_CONFIG_VSOCK", { vsock: { cid: 2 } }],
	["17 devices", "ERR_TOO_MANY_DEVICES", { rng: true, disks: Array.from({ length: 16 }, () => ({ path: "a" })) }],
	["no vCPU", "ERR_CONFIG_CPUS", { cpus: 0 }],
	["33 vCPUs", "ERR_CONFIG_CPUS", { cpus: 33 }],
])("completeConfig refuses %s with %s", (_, code, config) => {
	expect(refused(config)).toBe(code);
});

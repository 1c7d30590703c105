import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { enterDirectly } from "../../src/base/enter.ts";
import { completeConfig, type MachineConfig } from "../../src/machine/config.ts";
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

const idsOf = (config: Partial<MachineConfig>) => completeConfig({ kernel, ...config }).devices.map(({ id }) => id);

test("completeConfig fills in what is missing", () => {
	const origin = { kind: "kernel", kernel };
	const complete = {
		origin,
		cpus: 1,
		memoryMiB: 256,
		console: { kind: "none" },
		trace: [],
		traceFiles: [],
		devices: [],
	};
	expect(completeConfig({ kernel })).toEqual(complete);
});

test("completeConfig keeps no part of what it was given", async () => {
	const disk = { backend: new MemoryDisk(512), id: "a" };
	const disks = [disk];
	const { devices } = completeConfig({ kernel, disks });
	const { backend } = disk;
	disk.id = "b";
	disk.backend = new MemoryDisk(1024);
	disks.push(disk);
	expect(devices.map(({ id }) => id)).toEqual(["a"]);
	expect(await devices[0]!.open?.({ enter: enterDirectly, signal: undefined })).toBe(backend);
});

test("completeConfig has the devices in the order in which the guest finds them", () => {
	const backend = new MemoryDisk(512);
	const ids = idsOf({
		devices: [new RngDevice("lava")],
		virtioConsole: true,
		rng: true,
		vsock: {},
		nets: [{ kind: "user" }, { kind: "tap", name: "tap0", id: "wan" }],
		disks: [{ path: "a" }, { backend, id: "root" }],
	});
	expect(ids).toEqual(["disk0", "root", "net0", "wan", "vsock", "rng", "console", "lava"]);
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
	["a disk without queues", "ERR_CONFIG_DISK", { disks: [{ path: "a", queues: 0 }] }],
	["a disk with 33 queues", "ERR_CONFIG_DISK", { disks: [{ path: "a", queues: 33 }] }],
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

/*
 * From configuration to virtio devices, in the order in which the guest will find them. A new kind of device is one
 * line in `createDevices`. A device owns its backend; the teardown owns the device.
 */
import { FileDisk } from "../backends/file-disk.ts";
import { UnixVsock } from "../backends/unix-vsock.ts";
import type { Teardown } from "../base/teardown.ts";
import { BlockDevice } from "../virtio/block.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { RngDevice } from "../virtio/rng.ts";
import { VsockDevice } from "../virtio/vsock/device.ts";
import type { MachineConfig } from "./config.ts";

export interface Devices {
	readonly devices: VirtioDevice[];
	readonly vsock: UnixVsock | undefined;
}

/** Opens every backend and makes its device; `teardown` closes them. */
export async function createDevices(config: MachineConfig, teardown: Teardown): Promise<Devices> {
	const devices: VirtioDevice[] = [];
	const add = (device: VirtioDevice) => {
		teardown.add(() => device.close());
		devices.push(device);
	};
	for (const [i, { path, readOnly, id }] of config.disks.entries()) {
		add(new BlockDevice(FileDisk.open(path, { readOnly }), { name: `virtio-blk${i}`, id: id ?? `disk${i}` }));
	}
	let vsock: UnixVsock | undefined;
	if (config.vsock !== undefined) {
		vsock = await UnixVsock.open(config.vsock.uds);
		add(new VsockDevice(config.vsock.cid, vsock));
	}
	if (config.rng) add(new RngDevice());
	return { devices, vsock };
}

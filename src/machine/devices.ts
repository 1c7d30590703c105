/*
 * From configuration to virtio devices, in the order in which the guest will find them. A new kind of device is one
 * line in `createDevices`. A device owns its backend; the teardown owns the device.
 */
import type { HostConsole } from "../backends/console.ts";
import { ConsolePort } from "../backends/console-port.ts";
import { FileDisk } from "../backends/file-disk.ts";
import { PasstBackend, userNetwork } from "../backends/passt.ts";
import { TapBackend } from "../backends/tap.ts";
import { UnixVsock } from "../backends/unix-vsock.ts";
import type { Teardown } from "../base/teardown.ts";
import { BlockDevice } from "../virtio/block.ts";
import { ConsoleDevice } from "../virtio/console.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { macFor, NetDevice, parseMac } from "../virtio/net.ts";
import { RngDevice } from "../virtio/rng.ts";
import { VsockDevice } from "../virtio/vsock/device.ts";
import type { MachineConfig, NetConfig } from "./config.ts";

export interface Devices {
	readonly devices: VirtioDevice[];
	readonly vsock: UnixVsock | undefined;
}

/**
 * Opens every backend and makes its device; `teardown` closes them.
 *
 * @param console what a virtio-console speaks with
 */
export async function createDevices(config: MachineConfig, console: HostConsole, teardown: Teardown): Promise<Devices> {
	const devices: VirtioDevice[] = [];
	const add = (device: VirtioDevice) => {
		teardown.add(() => device.close());
		devices.push(device);
	};
	for (const [i, { path, readOnly, id }] of config.disks.entries()) {
		add(new BlockDevice(FileDisk.open(path, { readOnly }), { name: `virtio-blk${i}`, id: id ?? `disk${i}` }));
	}
	for (const [i, net] of config.nets.entries()) add(await createNet(net, `virtio-net${i}`));
	let vsock: UnixVsock | undefined;
	if (config.vsock !== undefined) {
		vsock = await UnixVsock.open(config.vsock.uds);
		add(new VsockDevice(config.vsock.cid, vsock));
	}
	if (config.rng) add(new RngDevice());
	if (config.virtioConsole === true) add(new ConsoleDevice(new ConsolePort(console)));
	return { devices, vsock };
}

async function createNet(net: NetConfig, name: string): Promise<NetDevice> {
	const given = net.mac === undefined ? undefined : parseMac(net.mac);
	if (net.kind === "tap") return new NetDevice(TapBackend.open(net.name), given ?? macFor(net.name), name);
	return new NetDevice(await PasstBackend.open(net.ports ?? []), given ?? parseMac(userNetwork.mac)!, name);
}

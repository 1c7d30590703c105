/*
 * The virtio devices of a machine, in the order in which the guest will find them. A new kind of device is one line in
 * `createDevices`. A device owns the backend that it is given; the teardown owns the device.
 */
import { ConsolePort } from "../backends/console-port.ts";
import type { NetBackend } from "../backends/contract.ts";
import { userNetwork } from "../backends/passt.ts";
import { MacAddress } from "../base/mac.ts";
import { BlockDevice } from "../virtio/block.ts";
import { ConsoleDevice } from "../virtio/console.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { NetDevice } from "../virtio/net.ts";
import { RngDevice } from "../virtio/rng.ts";
import { VsockDevice } from "../virtio/vsock/device.ts";
import type { MachineConfig, NetConfig } from "./config.ts";
import type { Resources } from "./resources.ts";

/** Makes a device for each of the resources that wants one. */
export function createDevices(config: MachineConfig, resources: Resources): VirtioDevice[] {
	const devices: VirtioDevice[] = [];
	for (const [i, backend] of resources.disks.entries()) {
		devices.push(new BlockDevice(backend, { name: `virtio-blk${i}`, id: config.disks[i]?.id ?? `disk${i}` }));
	}
	for (const [i, backend] of resources.nets.entries()) {
		devices.push(createNet(config.nets[i]!, backend, `virtio-net${i}`));
	}
	if (resources.vsock !== undefined) devices.push(new VsockDevice(config.vsock!.cid, resources.vsock));
	if (config.rng) devices.push(new RngDevice());
	if (config.virtioConsole === true) devices.push(new ConsoleDevice(new ConsolePort(resources.console)));
	return devices;
}

function createNet(net: NetConfig, backend: NetBackend, name: string): NetDevice {
	const usual = () => (net.kind === "tap" ? MacAddress.derive(net.name) : MacAddress.parse(userNetwork.mac));
	return new NetDevice(backend, net.mac === undefined ? usual() : MacAddress.parse(net.mac), name);
}

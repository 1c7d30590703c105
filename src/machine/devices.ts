/*
 * The virtio devices of a machine, in the order in which the guest will find them. A new kind of device is one line in
 * `createDevices`. A device owns the backend that it is given; the teardown owns the device.
 */
import { userNetwork } from "../backends/passt.ts";
import { MacAddress } from "../base/mac.ts";
import { BlockDevice } from "../virtio/block.ts";
import { ConsoleDevice } from "../virtio/console.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { NetDevice } from "../virtio/net.ts";
import { RngDevice } from "../virtio/rng.ts";
import { VsockDevice } from "../virtio/vsock/device.ts";
import type { CompleteConfig, NetConfig } from "./config.ts";
import type { ConsoleMux } from "./console-mux.ts";
import type { Resources } from "./resources.ts";

/** Makes a device for each of the resources that wants one; the caller's own come last. */
export function createDevices(config: CompleteConfig, resources: Resources, consoles: ConsoleMux): VirtioDevice[] {
	const devices: VirtioDevice[] = [];
	for (const [i, backend] of resources.disks.entries()) {
		devices.push(new BlockDevice(backend, { name: `virtio-blk${i}`, id: config.disks[i]!.id }));
	}
	for (const [i, backend] of resources.nets.entries()) {
		devices.push(new NetDevice(backend, macOf(config.nets[i]!), `virtio-net${i}`));
	}
	if (resources.vsock !== undefined) devices.push(new VsockDevice(config.vsock!.cid, resources.vsock));
	if (config.rng) devices.push(new RngDevice());
	if (config.virtioConsole) devices.push(new ConsoleDevice(consoles.line("virtio-console0", true)));
	return [...devices, ...config.devices];
}

function macOf(net: NetConfig & { id: string }): MacAddress {
	if (net.mac !== undefined) return MacAddress.parse(net.mac);
	if (net.kind === "user") return MacAddress.parse(userNetwork.mac);
	return MacAddress.derive(net.kind === "tap" ? net.name : net.id);
}

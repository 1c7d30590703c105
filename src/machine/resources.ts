/*
 * What a machine needs of the host: descriptors of KVM, memory, disks, networks and sockets, and the processes behind
 * them. Nothing here knows of a guest. `acquire` opens them all; `build` (builder.ts) wires what it is given and opens
 * nothing but eventfds, so that it can run confined.
 */
import { FileConsole, type HostConsole, NullConsole, StdioConsole } from "../backends/console.ts";
import type { BlockBackend, NetBackend } from "../backends/contract.ts";
import { FileDisk } from "../backends/file-disk.ts";
import { PasstBackend } from "../backends/passt.ts";
import { TapBackend } from "../backends/tap.ts";
import { UnixVsock } from "../backends/unix-vsock.ts";
import type { Teardown } from "../base/teardown.ts";
import { GuestRam } from "../host/ram.ts";
import { Kvm } from "../kvm/system.ts";
import type { ConsoleConfig, DiskConfig, MachineConfig, NetConfig } from "./config.ts";
import { memoryMap } from "./memory-map.ts";

/** What `acquire` has opened, in the configuration's order. */
export interface Resources {
	readonly kvm: Kvm;
	readonly ram: GuestRam;
	readonly console: HostConsole;
	readonly disks: readonly BlockBackend[];
	readonly nets: readonly NetBackend[];
	readonly vsock: UnixVsock | undefined;
}

/**
 * Opens everything. Each resource is closed by `teardown`, unless a device that it was handed to has closed it before:
 * a second `close` of a backend does nothing.
 *
 * @param ownConsole takes the place of `config.console`
 * @throws HostError for what the host lacks or refuses
 */
export async function acquire(
	config: MachineConfig,
	teardown: Teardown,
	ownConsole: HostConsole | undefined,
): Promise<Resources> {
	const owned = <T extends { close(): void | Promise<void> }>(resource: T): T => {
		teardown.add(() => resource.close());
		return resource;
	};
	const kvm = owned(Kvm.open());
	kvm.require(config.cpus);
	const ram = owned(GuestRam.map(memoryMap(config.memoryMiB).ram));
	const console = owned(ownConsole ?? openConsole(config.console));
	const disks = config.disks.map((disk) => owned(openDisk(disk)));
	const nets: NetBackend[] = [];
	for (const net of config.nets) nets.push(owned(await openNet(net)));
	const vsock = config.vsock === undefined ? undefined : owned(await UnixVsock.open(config.vsock.uds));
	return { kvm, ram, console, disks, nets, vsock };
}

function openConsole(config: ConsoleConfig): HostConsole {
	if (config.kind === "stdio") return new StdioConsole();
	return config.kind === "file" ? new FileConsole(config.path) : new NullConsole();
}

function openDisk({ path, readOnly }: DiskConfig): BlockBackend {
	return FileDisk.open(path, { readOnly });
}

async function openNet(net: NetConfig): Promise<NetBackend> {
	return net.kind === "tap" ? TapBackend.open(net.name) : await PasstBackend.open(net.ports ?? []);
}

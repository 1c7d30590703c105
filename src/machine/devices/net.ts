/*
 * The network interfaces of a machine: virtio-net devices on taps and bridges of the host, on networks of passt's, on
 * networks behind a unix socket, or on backends that the caller gives.
 */
import { randomBytes } from "node:crypto";
import type { NetBackend } from "../../backends/contract.ts";
import { FaultyNet, NET_FAULTS } from "../../backends/faulty-net.ts";
import { PasstBackend, userNetwork } from "../../backends/passt.ts";
import type { PortForward } from "../../backends/passt-ports.ts";
import { StreamNet } from "../../backends/stream-net.ts";
import { TapBackend } from "../../backends/tap.ts";
import { UplinkNet } from "../../backends/uplink-net.ts";
import { MacAddress } from "../../base/mac.ts";
import type { DeviceKind, DevicePlan, OpenOptions } from "../../virtio/device-kind.ts";
import { NetDevice } from "../../virtio/net.ts";

/**
 * A virtio-net interface (virtio 1.2 §5.1) on an existing tap of the host, on passt's network ("user") with ports of
 * the host that lead to the guest, on a network behind a unix socket ("stream"), or on your own backend. The machine then
 * owns the backend. With "bridge" a tap is made on a bridge of the host, for as long as the machine lives.
 */
export type NetConfig = {
	/** The guest's address, as in "52:54:00:12:34:56"; one that is always the same when missing, and random on a bridge. */
	mac?: string | undefined;
	/** Name on this machine; "net0" by position when missing. */
	id?: string | undefined;
} & (
	| {
			kind: "tap" | "bridge";
			name: string;
			/** Checksums and TCP segmentation may be left to the other side; true when missing. */
			offload?: boolean | undefined;
	  }
	| {
			kind: "user";
			ports?: PortForward[] | undefined;
			/** The gateway's address, 10.0.2.2, leads to the host's loopback: TCP and UDP; false when missing. */
			hostLoopback?: boolean | undefined;
	  }
	| {
			kind: "stream";
			/** A unix socket, such as that of QEMU's -netdev stream,server=on. */
			path: string;
			/** A way out of that network for this guest alone; none when missing. */
			uplink?: Uplink | undefined;
	  }
	| { kind: "own"; backend: NetBackend }
);

/** A passt process that stands for a network's gateway. */
export interface Uplink {
	/** The guest's IPv4 address on the network. */
	address: string;
	/** Bits of the network's part of addresses. */
	prefixLength: number;
	/** The gateway's IPv4 address. All members of the network give the same. */
	gateway: string;
	/** Ports of the host that lead to the guest; none when missing. */
	ports?: PortForward[] | undefined;
}

/** The field of MachineConfig. */
export interface NetFields {
	/** In the order in which the guest finds them. None when missing. */
	nets?: readonly NetConfig[] | undefined;
}

export const netKind: DeviceKind<NetFields> = {
	given: ({ nets = [] }) => nets.flatMap((net) => (net.kind === "own" ? [net.backend] : [])),
	plan: ({ nets = [] }) => nets.map((net, i) => netPlan({ ...net }, i)),
};

/** Opens an interface for a machine that runs. The caller closes it, until the machine has taken it. */
export async function openNetDevice(net: NetConfig, index: number, options: OpenOptions): Promise<NetDevice> {
	const mac = macOf(net, `net${index}`);
	return new NetDevice(await openNet(net, mac, options), mac, `virtio-net${index}`);
}

function netPlan(net: NetConfig, index: number): DevicePlan<NetBackend> {
	const { id = `net${index}` } = net;
	const mac = macOf(net, id);
	return {
		id,
		faulty: { alias: `net${index}`, events: NET_FAULTS, wrap: (backend, faults) => new FaultyNet(backend, faults) },
		open: (options) => openNet(net, mac, options),
		create: (backend) => new NetDevice(backend, mac, `virtio-net${index}`),
	};
}

function macOf(net: NetConfig, id: string): MacAddress {
	if (net.mac !== undefined) return MacAddress.parse(net.mac);
	if (net.kind === "user") return MacAddress.parse(userNetwork.mac);
	/* Two machines on one bridge must differ. */
	if (net.kind === "bridge") return MacAddress.derive(randomBytes(16).toString("hex"));
	return MacAddress.derive(net.kind === "tap" ? net.name : id);
}

async function openNet(net: NetConfig, mac: MacAddress, { enter, signal }: OpenOptions): Promise<NetBackend> {
	switch (net.kind) {
		case "own":
			return net.backend;
		case "tap":
			return TapBackend.open(net.name, { enter, offload: net.offload });
		case "bridge":
			return TapBackend.onBridge(net.name, { enter, offload: net.offload });
		case "user":
			return await PasstBackend.open(net.ports ?? [], { hostLoopback: net.hostLoopback, enter, signal });
		case "stream":
			return await openStream(net, mac, { enter, signal });
	}
}

async function openStream(
	{ path, uplink }: NetConfig & { kind: "stream" },
	mac: MacAddress,
	options: Pick<OpenOptions, "enter" | "signal">,
): Promise<NetBackend> {
	const network = await StreamNet.connect(path, options);
	if (uplink === undefined) return network;
	try {
		const { gatewayMac } = userNetwork;
		const { ports = [], ...addresses } = uplink;
		const passt = { ...addresses, mac: mac.toString(), gatewayMac };
		const out = await PasstBackend.open(ports, { ...options, network: passt });
		return new UplinkNet(network, out, { address: uplink.gateway, mac: gatewayMac });
	} catch (error) {
		await network.close();
		throw error;
	}
}

/*
 * The network interfaces of a machine: virtio-net devices on taps of the host, on networks of passt's, or on backends
 * that the caller gives.
 */
import type { NetBackend } from "../../backends/contract.ts";
import { PasstBackend, userNetwork } from "../../backends/passt.ts";
import type { PortForward } from "../../backends/passt-ports.ts";
import { TapBackend } from "../../backends/tap.ts";
import { MacAddress } from "../../base/mac.ts";
import type { DeviceKind, DevicePlan, OpenOptions } from "../../virtio/device-kind.ts";
import { NetDevice } from "../../virtio/net.ts";

/**
 * A virtio-net interface (virtio 1.2 §5.1) on an existing tap of the host, on passt's network ("user") with ports of
 * the host that lead to the guest, or on your own backend. The machine then owns the backend.
 */
export type NetConfig = {
	/** The guest's address, as in "52:54:00:12:34:56"; one that is always the same when missing. */
	mac?: string | undefined;
	/** Name on this machine; "net0" by position when missing. */
	id?: string | undefined;
} & (
	| { kind: "tap"; name: string }
	| {
			kind: "user";
			ports?: PortForward[] | undefined;
			/** The gateway's address, 10.0.2.2, leads to the host's loopback: TCP and UDP; false when missing. */
			hostLoopback?: boolean | undefined;
	  }
	| { kind: "own"; backend: NetBackend }
);

/** The field of MachineConfig. */
export interface NetFields {
	/** In the order in which the guest finds them. None when missing. */
	nets?: readonly NetConfig[] | undefined;
}

export const netKind: DeviceKind<NetFields> = {
	given: ({ nets = [] }) => nets.flatMap((net) => (net.kind === "own" ? [net.backend] : [])),
	plan: ({ nets = [] }) => nets.map((net, i) => netPlan({ ...net }, i)),
};

function netPlan(net: NetConfig, index: number): DevicePlan<NetBackend> {
	const { id = `net${index}` } = net;
	const mac = macOf(net, id);
	return {
		id,
		open: (options) => openNet(net, options),
		create: (backend) => new NetDevice(backend, mac, `virtio-net${index}`),
	};
}

function macOf(net: NetConfig, id: string): MacAddress {
	if (net.mac !== undefined) return MacAddress.parse(net.mac);
	if (net.kind === "user") return MacAddress.parse(userNetwork.mac);
	return MacAddress.derive(net.kind === "tap" ? net.name : id);
}

async function openNet(net: NetConfig, { enter, signal }: OpenOptions): Promise<NetBackend> {
	if (net.kind === "own") return net.backend;
	return net.kind === "tap"
		? TapBackend.open(net.name, { enter })
		: await PasstBackend.open(net.ports ?? [], { hostLoopback: net.hostLoopback, enter, signal });
}

/*
 * Puts a tap on a bridge of the host, which takes root (Linux bridge.rst; netdevice(7)). The tap was made without
 * TUNSETPERSIST, so the kernel takes it off the bridge and removes it when its descriptor is closed, also by SIGKILL.
 */
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { HostError } from "../base/errors.ts";
import { close, errnoNameOf, ioctl, socketPair } from "../host/libc.ts";
import { ifreq } from "./ifreq.ts";

export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCSIFMTU = 0x8922;
export const SIOCBRADDIF = 0x89a2;
const IFF_UP = 0x1;

const { EPERM } = constants.errno;

/** The MTU of a bridge. @throws HostError ERR_BRIDGE_MISSING, ERR_BRIDGE when it is another kind of interface */
export function bridgeMtu(name: string): number {
	const directory = `/sys/class/net/${name}`;
	if (!existsSync(directory)) {
		throw new HostError("ERR_BRIDGE_MISSING", `Cannot use bridge ${name}: there is no such interface`, {
			hint: `Make it as root: ip link add ${name} type bridge; ip link set ${name} up`,
		});
	}
	if (!existsSync(`${directory}/bridge`)) {
		throw new HostError("ERR_BRIDGE", `Cannot use bridge ${name}: the interface is no bridge`);
	}
	return Number(readFileSync(`${directory}/mtu`, "latin1"));
}

/** Adds a tap to a bridge, and sets it up. @throws HostError ERR_BRIDGE_PERMISSION, ERR_BRIDGE */
export function addToBridge(bridge: string, tap: string, mtu: number): void {
	const pair = socketPair();
	if (typeof pair === "number") throw failure(bridge, "socketpair", pair);
	try {
		const call = (what: string, number: number, request: Uint8Array) => {
			const result = ioctl(pair[0], number, request);
			if (result < 0) throw failure(bridge, what, result);
		};
		call("SIOCSIFMTU", SIOCSIFMTU, requestFor(tap, mtu));
		const index = Number(readFileSync(`/sys/class/net/${tap}/ifindex`, "latin1"));
		call("SIOCBRADDIF", SIOCBRADDIF, requestFor(bridge, index));
		const flags = requestFor(tap, 0);
		call("SIOCGIFFLAGS", SIOCGIFFLAGS, flags);
		flags[ifreq.ifr_flags]! |= IFF_UP;
		call("SIOCSIFFLAGS", SIOCSIFFLAGS, flags);
	} finally {
		for (const fd of pair) close(fd);
	}
}

/** A struct ifreq whose union holds a number. */
function requestFor(name: string, value: number): Uint8Array {
	const request = new Uint8Array(ifreq.sizeof);
	request.set(Buffer.from(name), ifreq.ifr_name);
	new DataView(request.buffer).setInt32(ifreq.ifr_flags, value, true);
	return request;
}

function failure(bridge: string, what: string, result: number): HostError {
	if (result === -EPERM) return bridgeDenied(bridge);
	return new HostError("ERR_BRIDGE", `Cannot use bridge ${bridge}: ${what} failed with ${errnoNameOf(-result)}`);
}

export function bridgeDenied(bridge: string, cause?: unknown): HostError {
	return new HostError("ERR_BRIDGE_PERMISSION", `Cannot use bridge ${bridge}: permission denied`, {
		hint: "Run tsvmm as root, or make a tap on the bridge as root and use tap=NAME",
		cause,
	});
}

/*
 * A network through a tap interface of the host (Linux tuntap.rst). Frames go by readv and writev between the tap and
 * guest RAM. Each has struct virtio_net_hdr (12 bytes) in front, so guest and host can leave checksums and TCP
 * segmentation to the network card. The tap is one that the administrator has made, with its name, bridge and firewall,
 * or one that is made here on a bridge of his, and goes with this object (bridge.ts).
 */
import { closeSync, constants as fsConstants, openSync } from "node:fs";
import { constants } from "node:os";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { errnoName, explain, HostError, UsageError } from "../base/errors.ts";
import { logRateLimited } from "../base/log.ts";
import type { Segments } from "../base/segments.ts";
import { errnoNameOf, interfaceIoctl, ioctl } from "../host/libc.ts";
import { READABLE, type Watch, WRITABLE, watch } from "../host/reactor.ts";
import { readSegments, writeSegments } from "../host/scatter.ts";
import { addToBridge, bridgeDenied, bridgeMtu } from "./bridge.ts";
import type { GuestOffloads, NetBackend, NetEvents, NetOffloads } from "./contract.ts";
import { IFNAMSIZ, ifreq } from "./ifreq.ts";

const iow = (number: number) => 0x4000_0000 + (4 << 16) + (0x54 << 8) + number;
export const TUNSETIFF = iow(202);
export const TUNSETOFFLOAD = iow(208);
export const TUNSETVNETHDRSZ = iow(216);

const SIOCGIFMTU = 0x8921;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;
const VNET_HEADER_BYTES = 12;
const RETRY_MS = 1000;
const OFFLOADS: NetOffloads = { vnetHeader: true, csum: true, tso: true, guestCsum: true, guestTso: true };
const NO_OFFLOADS: NetOffloads = { vnetHeader: true, csum: false, tso: false, guestCsum: false, guestTso: false };
/** Of taps that are made here; the kernel chooses the number. */
const OWN_NAME = "tsvmm%d";

const { EAGAIN, EINTR, EBUSY, EPERM, EINVAL } = constants.errno;

export interface TapOptions {
	/** The way into the machine that the network belongs to. */
	enter?: Enter | undefined;
	/** Checksums and TCP segmentation may be left to the other side; true when missing. */
	offload?: boolean | undefined;
}

export class TapBackend implements NetBackend {
	readonly name: string;
	readonly mtu: number;
	readonly offloads: NetOffloads;
	readonly #fd: number;
	readonly #enter: Enter;
	#watch: Watch | undefined;
	#events: NetEvents | undefined;
	/** The events that the watch waits for. */
	#waiting = 0;
	/** Events that the device was told of and has not handled. */
	#known = 0;
	#retry: NodeJS.Timeout | undefined;

	private constructor(name: string, fd: number, mtu: number, { enter = enterDirectly, offload = true }: TapOptions) {
		this.name = name;
		this.offloads = offload ? OFFLOADS : NO_OFFLOADS;
		this.#enter = enter;
		this.#fd = fd;
		this.mtu = mtu;
	}

	/**
	 * Attaches to tap `name`.
	 *
	 * @throws UsageError ERR_TAP_NAME
	 * @throws HostError ERR_TAP_MISSING, ERR_TAP_BUSY, ERR_TAP_PERMISSION, or ERR_TAP for what else may fail
	 * @example const backend = TapBackend.open("tap0");
	 */
	static open(name: string, options: TapOptions = {}): TapBackend {
		checkName("tap", name);
		const mtu = mtuOf(name);
		const fd = openTun((error) => denied(name, error), `tap ${name}`);
		try {
			attach(fd, name);
			return new TapBackend(name, fd, mtu, options);
		} catch (error) {
			closeSync(fd);
			throw error;
		}
	}

	/**
	 * Makes a tap on a bridge of the host, with the bridge's MTU. It is gone when this backend is closed, or the process
	 * has ended in any way.
	 *
	 * @throws UsageError ERR_TAP_NAME
	 * @throws HostError ERR_BRIDGE_MISSING, ERR_BRIDGE_PERMISSION, or ERR_BRIDGE and ERR_TAP for what else may fail
	 */
	static onBridge(bridge: string, options: TapOptions = {}): TapBackend {
		checkName("bridge", bridge);
		const mtu = bridgeMtu(bridge);
		const fd = openTun((error) => bridgeDenied(bridge, error), `bridge ${bridge}`);
		try {
			const name = attach(fd, OWN_NAME);
			addToBridge(bridge, name, mtu);
			return new TapBackend(name, fd, mtu, options);
		} catch (error) {
			closeSync(fd);
			const isDenied = error instanceof HostError && error.code === "ERR_TAP_PERMISSION";
			throw isDenied ? bridgeDenied(bridge, error) : error;
		}
	}

	start(events: NetEvents): void {
		this.#events = events;
		this.#waiting = READABLE;
		this.#watch = watch(this.#fd, READABLE, (ready) => this.#ready(ready), {
			enter: this.#enter,
			name: `tap ${this.name}`,
		});
	}

	setGuestOffloads({ csum, tso, ecn }: GuestOffloads): void {
		const segments = tso ? TUN_F_TSO4 | TUN_F_TSO6 | (ecn ? TUN_F_TSO_ECN : 0) : 0;
		/* The ioctl fails on a tap that is down or deleted. No frames come from it then. */
		ioctl(this.#fd, TUNSETOFFLOAD, csum ? TUN_F_CSUM | segments : 0);
	}

	send(frame: Segments, header?: Uint8Array): boolean {
		let written: number;
		do written = writeSegments(this.#fd, frame, header);
		while (written === -EINTR);
		if (written !== -EAGAIN) return true; /* sent, or never possible (a bad header, the link is down) and dropped */
		this.#known &= ~WRITABLE;
		this.#wait(this.#waiting | WRITABLE);
		return false;
	}

	receive(into: Segments): number {
		let got: number;
		do got = readSegments(this.#fd, into);
		while (got === -EINTR);
		if (got > 0) return got;
		if (got === -EAGAIN) {
			this.#known &= ~READABLE;
			this.#wait(this.#waiting | READABLE);
		} else {
			this.#lost(-got);
		}
		return 0;
	}

	async close(): Promise<void> {
		if (this.#watch === undefined && this.#waiting < 0) return;
		clearTimeout(this.#retry);
		this.#watch?.close();
		this.#watch = undefined;
		this.#waiting = -1;
		closeSync(this.#fd);
	}

	/** The tap was deleted or detached. Its fd is always "ready", so look again only now and then. */
	#lost(errno: number): void {
		logRateLimited(`tap ${this.name}`, "warn", `reading frames fails with ${errnoNameOf(errno)}`);
		this.#retry ??= setTimeout(() => {
			this.#retry = undefined;
			this.#enter(`tap ${this.name}`, () => this.#wait(this.#waiting | READABLE));
		}, RETRY_MS);
		this.#retry.unref();
	}

	#ready(ready: number): void {
		this.#known |= ready;
		if ((ready & WRITABLE) !== 0) this.#events?.writable();
		if ((ready & READABLE) !== 0) this.#events?.readable();
		/* The watch is level-triggered. Stop watching for an event that the device has not handled, until it does: mostly it
		 * has done so already, and there is no system call. */
		this.#wait(this.#waiting & ~this.#known);
	}

	#wait(events: number): void {
		if (this.#watch === undefined || events === this.#waiting) return;
		this.#waiting = events;
		this.#watch.set(events);
	}
}

function checkName(what: string, name: string): void {
	if (name !== "" && name.length < IFNAMSIZ && !/[^\x21-\x7e]|[/:%]/.test(name) && name !== "." && name !== "..")
		return;
	throw new UsageError("ERR_TAP_NAME", `Cannot use ${what} "${name}": an interface name has 1 to 15 plain characters`);
}

/** Attaches to a tap, which is made if it is not there. @returns its name */
function attach(fd: number, name: string): string {
	const request = new Uint8Array(ifreq.sizeof);
	request.set(Buffer.from(name), ifreq.ifr_name);
	new DataView(request.buffer).setUint16(ifreq.ifr_flags, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
	must(name, "TUNSETIFF", ioctl(fd, TUNSETIFF, request));
	const size = new Uint8Array(Int32Array.of(VNET_HEADER_BYTES).buffer);
	must(name, "TUNSETVNETHDRSZ", ioctl(fd, TUNSETVNETHDRSZ, size));
	must(name, "TUNSETOFFLOAD", ioctl(fd, TUNSETOFFLOAD, 0));
	const given = Buffer.from(request.subarray(ifreq.ifr_name, ifreq.ifr_name + IFNAMSIZ));
	return given.toString("latin1", 0, given.indexOf(0));
}

/** Of an interface in this thread's network namespace; /sys may show another one's. */
function mtuOf(name: string): number {
	const request = new Uint8Array(ifreq.sizeof);
	request.set(Buffer.from(name), ifreq.ifr_name);
	const result = interfaceIoctl(SIOCGIFMTU, request);
	if (result >= 0) return new DataView(request.buffer).getInt32(ifreq.ifr_flags, true);
	const errno = errnoNameOf(-result);
	if (errno !== "ENODEV") throw new HostError("ERR_TAP", `Cannot read the MTU of tap ${name}: ${errno}`);
	throw new HostError("ERR_TAP_MISSING", `Cannot use tap ${name}: there is no such interface`, {
		hint: `Make it as root: ip tuntap add ${name} mode tap`,
	});
}

/** @param deny makes the error for one who may not */
function openTun(deny: (cause: unknown) => HostError, what: string): number {
	try {
		return openSync("/dev/net/tun", fsConstants.O_RDWR | fsConstants.O_NONBLOCK);
	} catch (error) {
		const errno = errnoName(error);
		if (errno === "EACCES" || errno === "EPERM") throw deny(error);
		throw new HostError("ERR_TAP", `Cannot open /dev/net/tun for ${what}: ${explain(error)}`, {
			hint: "Load its module as root: modprobe tun",
			cause: error,
		});
	}
}

function denied(name: string, cause?: unknown): HostError {
	return new HostError("ERR_TAP_PERMISSION", `Cannot use tap ${name}: permission denied`, {
		hint: `Make it as root: ip tuntap add ${name} mode tap user ${process.getuid!()}`,
		cause,
	});
}

function must(name: string, what: string, result: number): void {
	if (result >= 0) return;
	if (result === -EBUSY) {
		throw new HostError("ERR_TAP_BUSY", `Cannot use tap ${name}: another process is attached to it`, {
			hint: "Give each machine a tap of its own",
		});
	}
	if (result === -EPERM) throw denied(name);
	const hint = result === -EINVAL ? `Check that ${name} is a tap, and without multi_queue` : undefined;
	throw new HostError("ERR_TAP", `Cannot use tap ${name}: ${what} failed with ${errnoNameOf(-result)}`, { hint });
}

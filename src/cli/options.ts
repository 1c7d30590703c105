/*
 * Parses the machine options of `boot` and `run`. Each function turns what the user wrote into a part of MachineConfig,
 * or throws a UsageError that quotes it.
 */

import { DISK_FORMATS, type DiskFormat } from "../backends/open-disk.ts";
import type { PortForward } from "../backends/passt-ports.ts";
import { UsageError } from "../base/errors.ts";
import type { ConsoleConfig } from "../machine/config.ts";
import type { DiskConfig } from "../machine/devices/disk.ts";
import type { DirectoryFsConfig } from "../machine/devices/fs.ts";
import type { NetConfig } from "../machine/devices/net.ts";
import type { VsockConfig } from "../machine/devices/vsock.ts";
import type { BalloonConfig } from "../virtio/balloon-config.ts";
import type { CacheMode } from "../virtio/fs/cache-policy.ts";

const UNITS: Record<string, number> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

function sizeBytes(text: string): number {
	const match = /^(\d+(?:\.\d+)?)([bkmgt])?(?:i?b)?$/i.exec(text.trim());
	return match === null ? Number.NaN : Number(match[1]) * UNITS[(match[2] ?? "b").toLowerCase()]!;
}

/** "10G", "512m", "1073741824" -> bytes. */
export function parseSize(text: string): number {
	const bytes = sizeBytes(text);
	if (Number.isSafeInteger(bytes)) return bytes;
	throw new UsageError("ERR_OPTION_SIZE", `Cannot read size "${text}"`, {
		hint: "Write a whole number of bytes, or one with a unit, as in 512M or 10G",
	});
}

/** "512M", "2g", "1073741824" (bytes, as Docker has it) -> MiB. A fraction of a MiB is refused. */
export function parseMemory(text: string): number {
	const mib = sizeBytes(text) / 2 ** 20;
	if (!Number.isSafeInteger(mib)) {
		throw new UsageError("ERR_OPTION_MEMORY", `Cannot read memory size "${text}"`, {
			hint: "Give a whole number of MiB with a unit, as in 512M or 2G; a bare number is bytes",
		});
	}
	return mib;
}

/** True, for a balloon that gives back free pages, or "128M", what the guest is to give besides. */
export function parseBalloon(size: string | true): BalloonConfig {
	return size === true ? {} : { targetMiB: parseMemory(size) };
}

/** "4" -> 4. The machine checks the range. */
export function parseCpus(text: string): number {
	if (!/^\d{1,9}$/.test(text))
		throw new UsageError("ERR_OPTION_CPUS", `Cannot read number of vCPUs "${text}": a whole number is wanted`);
	return Number(text);
}

/** "disk.img", "disk.img,ro", "disk.img,ro,id=data,queues=2". A path with a comma is written with two. */
export function parseDisk(text: string): DiskConfig {
	const [path, ...rest] = splitFields(text);
	if (path === undefined || path === "")
		throw new UsageError("ERR_OPTION_DISK", `Cannot read disk "${text}": it has no path`);
	const disk: DiskConfig = { path, readOnly: false };
	for (const field of rest) {
		const [key, value] = keyValue(field);
		if (key === "ro" && value === undefined) disk.readOnly = true;
		else if (key === "rw" && value === undefined) disk.readOnly = false;
		else if (key === "id" && value) disk.id = value;
		else if (key === "format" && isDiskFormat(value)) disk.format = value;
		else if (key === "direct" && (value === "on" || value === "off")) disk.direct = value === "on";
		else if (key === "queues" && value && /^\d{1,4}$/.test(value)) disk.queues = Number(value);
		else throw unknownField("ERR_OPTION_DISK", { what: "disk", text, field, known: DISK_FIELDS });
	}
	return disk;
}

const DISK_FIELDS = "ro, rw, id=NAME, format=raw|qcow2, direct=on|off, queues=N";

function isDiskFormat(text: string | undefined): text is DiskFormat {
	return DISK_FORMATS.some((format) => format === text);
}

/**
 * "user", "none", "tap=NAME", "bridge=NAME", each but none with ",mac=..", user with ",port=HOST:GUEST" and
 * ",host-loopback=on", tap and bridge with ",offload=off".
 * Undefined for "none".
 */
export function parseNet(text: string): NetConfig | undefined {
	const [first = "", ...rest] = splitFields(text);
	const [kind, name] = keyValue(first);
	let net: Exclude<NetConfig, { kind: "own" } | { kind: "stream" }>;
	if (kind === "none" && name === undefined && rest.length === 0) return undefined;
	if (kind === "user" && name === undefined) net = { kind: "user" };
	else if ((kind === "tap" || kind === "bridge") && name) net = { kind, name };
	else {
		throw new UsageError("ERR_OPTION_NET", `Cannot read network "${text}"`, {
			hint: "Write user, none, tap=NAME or bridge=NAME, then ,mac=52:54:00:12:34:56 if wanted; for user also ,port=8080:80 or ,host-loopback=on, for the others ,offload=off",
		});
	}
	for (const field of rest) {
		const [key, value] = keyValue(field);
		if (key === "mac" && value) net.mac = value;
		else if (key === "port" && value && net.kind === "user") net.ports = [...(net.ports ?? []), parsePort(value)];
		else if (field === "host-loopback=on" && net.kind === "user") net.hostLoopback = true;
		else if (field === "host-loopback=off" && net.kind === "user") net.hostLoopback = false;
		else if (field === "offload=on" && net.kind !== "user") net.offload = true;
		else if (field === "offload=off" && net.kind !== "user") net.offload = false;
		else throw unknownField("ERR_OPTION_NET", { what: "network", text, field, known: NET_FIELDS[net.kind] });
	}
	return net;
}

const NET_FIELDS = {
	user: "mac, port, host-loopback=on|off",
	tap: "mac, offload=on|off",
	bridge: "mac, offload=on|off",
};

/** Docker's -p: "8080:80", "127.0.0.1:8080:80", "5353:53/udp". */
export function parsePort(text: string): PortForward {
	const [port, ...more] = parsePorts(text);
	if (more.length > 0) throw unreadablePort(text);
	return port!;
}

/** As parsePort, and ranges of the same length: "8000-8010:80-90". */
export function parsePorts(text: string): PortForward[] {
	const match = /^(?:(\d+\.\d+\.\d+\.\d+):)?(\d+)(?:-(\d+))?:(\d+)(?:-(\d+))?(?:\/(tcp|udp))?$/.exec(text);
	if (match === null) throw unreadablePort(text);
	const [, address, first, last = first, guestFirst, guestLast = guestFirst, protocol] = match;
	const count = Number(last) - Number(first) + 1;
	const isPort = (port: number) => port >= 1 && port <= 65535;
	const areAll = [first, last, guestFirst, guestLast].every((port) => isPort(Number(port)));
	if (!areAll || count < 1 || Number(guestLast) - Number(guestFirst) + 1 !== count) throw unreadablePort(text);
	return Array.from({ length: count }, (_, i) => ({
		...(address === undefined ? {} : { hostAddress: address }),
		hostPort: Number(first) + i,
		guestPort: Number(guestFirst) + i,
		protocol: protocol === "udp" ? "udp" : "tcp",
	}));
}

function unreadablePort(text: string): UsageError {
	return new UsageError("ERR_OPTION_PORT", `Cannot read port "${text}"`, {
		hint: "Write [ADDRESS:]HOST:GUEST[/udp], as in 8080:80",
	});
}

/** "tag=home,path=/home/me", then ",ro" and ",cache=none|auto|always" if wanted. A path with a comma is written with two. */
export function parseFs(text: string): DirectoryFsConfig {
	const fs: DirectoryFsConfig = { tag: "", path: "" };
	for (const field of splitFields(text)) {
		const [key, value] = keyValue(field);
		if (key === "tag" && value) fs.tag = value;
		else if (key === "path" && value) fs.path = value;
		else if (key === "ro" && value === undefined) fs.readOnly = true;
		else if (key === "rw" && value === undefined) fs.readOnly = false;
		else if (key === "cache" && isCacheMode(value)) fs.cache = value;
		else if (key === "id" && value) fs.id = value;
		else throw unknownField("ERR_OPTION_FS", { what: "file system", text, field, known: FS_FIELDS });
	}
	if (fs.tag !== "" && fs.path !== "") return fs;
	throw new UsageError("ERR_OPTION_FS", `Cannot read file system "${text}": it has no tag or no path`, {
		hint: "Write tag=NAME,path=DIRECTORY; then ,ro or ,cache=none|auto|always if wanted",
	});
}

const FS_FIELDS = "tag=NAME, path=DIRECTORY, ro, rw, cache=none|auto|always, id=NAME";

function isCacheMode(text: string | undefined): text is CacheMode {
	return text === "none" || text === "auto" || text === "always";
}

/** "cid=3,uds=/run/vm.sock" */
export function parseVsock(text: string): VsockConfig {
	const words = splitFields(text);
	const fields = new Map(words.map(keyValue));
	const cid = fields.get("cid");
	const uds = fields.get("uds");
	if (words.length !== 2 || cid === undefined || !/^\d+$/.test(cid) || !uds) {
		throw new UsageError("ERR_OPTION_VSOCK", `Cannot read vsock "${text}"`, { hint: "Write cid=3,uds=PATH" });
	}
	return { cid: Number(cid), uds };
}

/** "stdio", "none", "file=PATH" */
export function parseConsole(text: string): ConsoleConfig {
	if (text === "stdio" || text === "none") return { kind: text };
	if (text.startsWith("file=") && text.length > 5) return { kind: "file", path: text.slice(5) };
	throw new UsageError("ERR_OPTION_CONSOLE", `Cannot read console "${text}"`, {
		hint: "Write stdio, none or file=PATH",
	});
}

/** Splits at single commas. Two commas in a row mean one. */
export function splitFields(text: string): string[] {
	return text
		.replaceAll(",,", "\0")
		.split(",")
		.map((field) => field.replaceAll("\0", ","));
}

/** "id=x" -> ["id", "x"]. */
export function keyValue(field: string): [string, string | undefined] {
	const at = field.indexOf("=");
	return at < 0 ? [field, undefined] : [field.slice(0, at), field.slice(at + 1)];
}

function unknownField(code: string, { what, text, field, known }: Record<string, string>): UsageError {
	return new UsageError(code, `Cannot read ${what} "${text}": "${field}" is not known`, {
		hint: `Choose from ${known}`,
	});
}

/** For an option that may be repeated. */
export function append(text: string, before: string[]): string[] {
	return [...before, text];
}

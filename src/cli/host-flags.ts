/*
 * The flags of `boot` and `snapshot restore` about the host's side of a machine: devices, consoles, what is printed.
 */
import { type Command, Option } from "commander";
import { formatOf } from "../backends/open-disk.ts";
import { backingFiles } from "../backends/qcow2/open.ts";
import { fileShare, outputShare, type Share } from "../lab/shares.ts";
import type { RestoreConfig } from "../machine/config.ts";
import type { DiskConfig } from "../machine/devices/disk.ts";
import type { DirectoryFsConfig } from "../machine/devices/fs.ts";
import type { NetConfig } from "../machine/devices/net.ts";
import type { DeviceFileConfig } from "../workbench/device-file.ts";
import { parseDeviceFile } from "./device-files.ts";
import { addFaultFlags, type FaultFlags, faultsOf } from "./fault-flags.ts";
import { addGdbFlags, type GdbFlags, gdbAddress } from "./gdb-flags.ts";
import { parseInspect } from "./inspect-flag.ts";
import { parseBalloon, parseConsole, parseDisk, parseFs, parseNet, parseVsock } from "./options.ts";
import { addTraceFlags, parseSeconds, type TraceFlags, traceConfig, traceShares } from "./trace-flags.ts";

export interface HostFlags extends FaultFlags, GdbFlags, TraceFlags {
	disk: DiskConfig[];
	net: NetConfig[];
	fs: DirectoryFsConfig[];
	device: DeviceFileConfig[];
	vsock?: string;
	rng: boolean;
	virtioConsole: boolean;
	balloon?: string | true;
	console: string;
	control?: string;
	inspect?: number;
	quiet: boolean;
	timings: boolean;
	/** After how many seconds, too; NaN for the end alone. */
	explain?: number;
	json: boolean;
}

/** Adds the flags to a command. */
export function addHostFlags(command: Command): Command {
	addGdbFlags(command)
		.addOption(
			new Option(
				"--disk <file[,ro][,id=X][,format=X][,...]>",
				"disk image (raw, qcow2) or block device; may be repeated",
			)
				.argParser(append(parseDisk))
				.default([], "none"),
		)
		.addOption(
			new Option("--net <user[,port=HOST:GUEST]|tap=NAME|bridge=NAME>", "network interface; may be repeated")
				.argParser(append(parseNet))
				.default([], "none"),
		)
		.addOption(
			new Option("--fs <tag=NAME,path=DIR[,ro][,cache=X]>", "directory to mount by virtio-fs; may be repeated")
				.argParser(append(parseFs))
				.default([], "none"),
		)
		.addOption(
			new Option("--device <file[,id=X][,...]>", "a virtio device of your own, in TypeScript; may be repeated")
				.argParser(append(parseDeviceFile))
				.default([], "none"),
		)
		.option("--vsock <cid=N,uds=PATH>", "vsock device with its unix socket")
		.option("--rng", "entropy device", false)
		.option("--virtio-console", "a second console, hvc0, on stdio", false)
		.option("--balloon [size]", "memory balloon: the guest gives free pages back, and as much more as SIZE says")
		.option("--console <stdio|file=PATH|none>", "where the serial port goes", "stdio")
		.option("--control <path>", "unix socket for `tsvmm snapshot create`, `dump` and `explain`")
		.addOption(
			new Option("--inspect [port]", "serve a page on 127.0.0.1 that shows the machine at work")
				.argParser(parseInspect)
				.preset("0"),
		);
	return addTraceFlags(addFaultFlags(command))
		.addOption(
			new Option("--explain [seconds]", "tell at the end, and after SECONDS, what the guest did and what is wrong")
				.argParser(parseSeconds)
				.preset(""),
		)
		.option("--timings", "say on stderr how long each phase of the start took, when the machine has ended", false)
		.option("--json", "print how the machine ended as JSON on stderr", false)
		.option("-q, --quiet", "no notes on stderr", false);
}

/** Turns the flags into a configuration. @throws UsageError */
export function hostConfig(flags: HostFlags): RestoreConfig {
	const faults = faultsOf(flags);
	/* Refuses what is wrong with it before the machine is made. */
	gdbAddress(flags);
	return {
		...(faults === undefined ? {} : { faults }),
		disks: flags.disk,
		nets: flags.net,
		fs: flags.fs,
		...(flags.vsock === undefined ? {} : { vsock: parseVsock(flags.vsock) }),
		rng: flags.rng,
		virtioConsole: flags.virtioConsole,
		...(flags.balloon === undefined ? {} : { balloon: parseBalloon(flags.balloon) }),
		console: parseConsole(flags.console),
		...traceConfig(flags),
	};
}

/** The files that these flags name. The lab needs them, too. Sockets are the lab's own: they cannot be shared. */
export function hostShares({ disks = [], fs = [], console, traceFiles }: RestoreConfig): Share[] {
	const shares: Share[] = [];
	for (const disk of disks) {
		if (!("path" in disk)) continue;
		shares.push(fileShare(disk.path, disk.readOnly === true ? "ro" : "rw"));
		if ((disk.format ?? formatOf(disk.path)) !== "qcow2") continue;
		for (const path of backingFiles(disk.path)) shares.push(fileShare(path, "ro"));
	}
	for (const one of fs) if ("path" in one) shares.push(fileShare(one.path, one.readOnly === true ? "ro" : "rw"));
	if (console?.kind === "file") shares.push(outputShare(console.path));
	return [...shares, ...traceShares(traceFiles === undefined ? {} : { traceFiles })];
}

function append<T>(parse: (text: string) => T | undefined): (text: string, before: T[]) => T[] {
	return (text, before) => {
		const value = parse(text);
		return value === undefined ? before : [...before, value];
	};
}

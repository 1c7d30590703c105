/*
 * A machine's configuration as data, for the command line, programs and tests. Only the kernel is required.
 * `completeConfig` fills in the defaults and finds errors before anything on the host is touched. The fields of virtio
 * devices are with their kinds (device-table.ts).
 */
import type { ConsoleBackend } from "../backends/contract.ts";
import { UsageError } from "../base/errors.ts";
import { type Faults, type FaultTarget, INTERRUPT_EVENTS } from "../base/faults.ts";
import type { LogOptions } from "../base/log.ts";
import type { Observer } from "../base/observer.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";
import { checkTraceFile, type TraceFileConfig } from "../trace/file-config.ts";
import { TraceFilter } from "../trace/filter.ts";
import type { DevicePlan } from "../virtio/device-kind.ts";
import { DEVICE_KINDS, type DeviceFields } from "./device-table.ts";
import { virtioSlot } from "./memory-map.ts";

/**
 * Where the serial console goes: this process's stdin and stdout, a file, nowhere, or a console of your own, which the
 * machine then owns. A console with a slow reader makes only the guest wait.
 */
export type ConsoleConfig =
	| { kind: "stdio" }
	| { kind: "file"; path: string }
	| { kind: "none" }
	| { kind: "own"; console: ConsoleBackend };

/**
 * The argument of Machine.create. The machine closes the backends, consoles and devices in it, also when create fails.
 */
export interface MachineConfig extends DeviceFields {
	/** Path of an x86-64 kernel: an ELF vmlinux or a bzImage. */
	kernel: string;
	/** Path of an initial RAM disk; none when missing. */
	initrd?: string | undefined;
	/** Kernel parameters, appended to the machine's own. */
	cmdline?: string | undefined;
	/** vCPUs, 1 to 32; 1 when missing. */
	cpus?: number | undefined;
	/** RAM in MiB, 64 and up; 256 when missing. Pages take room on the host once the guest touches them. */
	memoryMiB?: number | undefined;
	/** Where the serial console goes; nowhere when missing. */
	console?: ConsoleConfig | undefined;
	/**
	 * Which events are printed in the machine's log, a line each: kinds such as "exits" and "queues" (TraceKind), devices such
	 * as "blk0" and "net", or "all". None when missing.
	 */
	trace?: readonly string[] | undefined;
	/** Files that events are written to; none when missing. */
	traceFiles?: readonly TraceFileConfig[] | undefined;
	/**
	 * Observes this machine from its start; none when missing. An observer with `access` also sees accesses that native
	 * code would answer, and each of them costs an exit.
	 */
	observer?: Observer | undefined;
	/** What goes wrong on purpose; nothing when missing. */
	faults?: Faults | undefined;
	/**
	 * The log of this machine: where it is written, and from which level on. Warnings and errors on stderr when missing.
	 */
	log?: LogOptions | undefined;
	/** An abort makes `create` fail with the signal's reason, and stops a machine that was created. */
	signal?: AbortSignal | undefined;
}

/**
 * The argument of Machine.restore, beside the snapshot: the host's side of the machine. It has the devices that the machine
 * had when the snapshot was taken, with the same ids. Each comes to its place by its id.
 */
export type RestoreConfig = Omit<MachineConfig, "kernel" | "initrd" | "cmdline" | "cpus" | "memoryMiB">;

/** What a machine's memory and vCPUs begin with. */
export type Origin =
	| {
			readonly kind: "kernel";
			readonly kernel: string;
			readonly initrd: string | undefined;
			readonly cmdline: string | undefined;
	  }
	| { readonly kind: "snapshot"; readonly snapshot: SnapshotImage };

/** A configuration with all defaults filled in, as the machine's parts read it. */
export interface CompleteConfig extends Omit<RestoreConfig, keyof DeviceFields> {
	readonly origin: Origin;
	readonly cpus: number;
	readonly memoryMiB: number;
	readonly console: ConsoleConfig;
	readonly trace: readonly string[];
	readonly traceFiles: readonly TraceFileConfig[];
	/** The virtio devices, in the order in which the guest finds them. */
	readonly devices: readonly DevicePlan[];
}

export const MAX_CPUS = 32;
export const MIN_MEMORY_MIB = 64;
/** Largest RAM, in MiB. A host whose CPUs address less (CPUID leaf 0x80000008) has a lower limit. */
export const MAX_MEMORY_MIB = 1024 * 1024;
const DEFAULT_MEMORY_MIB = 256;

/** @throws UsageError ERR_CONFIG_CPUS, ERR_CONFIG_MEMORY */
export function validateSize(cpus: number, memoryMiB: number): void {
	if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS) {
		throw new UsageError("ERR_CONFIG_CPUS", `Cannot give the machine ${cpus} vCPUs: 1 to ${MAX_CPUS} are possible`);
	}
	if (!Number.isInteger(memoryMiB) || memoryMiB < MIN_MEMORY_MIB || memoryMiB > MAX_MEMORY_MIB) {
		throw new UsageError(
			"ERR_CONFIG_MEMORY",
			`Cannot give the machine ${memoryMiB} MiB of memory: ${MIN_MEMORY_MIB} MiB to ${MAX_MEMORY_MIB / 1024} GiB are possible`,
			{ hint: "Give --memory a number with a unit, as in --memory 512M" },
		);
	}
}

/**
 * Checks all that can be checked without the host, and fills in the defaults. The result is a copy, so later changes of
 * `config` have no effect.
 *
 * @throws UsageError naming the value and its range
 */
export function completeConfig(config: MachineConfig): CompleteConfig {
	const { kernel, initrd, cmdline, cpus = 1, memoryMiB = DEFAULT_MEMORY_MIB } = config;
	if (typeof kernel !== "string" || kernel === "") {
		throw new UsageError("ERR_CONFIG_KERNEL", `Cannot boot kernel ${JSON.stringify(kernel)}: a path is wanted`);
	}
	return complete(config, { kind: "kernel", kernel, initrd, cmdline }, { cpus, memoryMiB });
}

/** As `completeConfig`, for a machine that is restored. */
export function completeRestore(config: RestoreConfig, snapshot: SnapshotImage): CompleteConfig {
	const { cpus, memoryMiB } = snapshot.manifest.machine;
	return complete(config, { kind: "snapshot", snapshot }, { cpus, memoryMiB });
}

function complete(
	config: RestoreConfig,
	origin: Origin,
	{ cpus, memoryMiB }: { cpus: number; memoryMiB: number },
): CompleteConfig {
	const { console = { kind: "none" }, trace = [], traceFiles = [], observer, faults, log, signal } = config;
	validateSize(cpus, memoryMiB);
	new TraceFilter(trace);
	for (const file of traceFiles) checkTraceFile(file);
	const devices = DEVICE_KINDS.flatMap((kind) => kind.plan(config, { cpus }));
	validateIds(devices);
	faults?.check(devices.map(faultTarget));
	const machine = { origin, cpus, memoryMiB, console: { ...console }, trace: [...trace], traceFiles: [...traceFiles] };
	return { ...machine, devices, observer, faults, log, signal };
}

/** A device as rules of faults name it. */
function faultTarget({ id, faulty }: DevicePlan): FaultTarget {
	return { id, alias: faulty?.alias, events: { ...faulty?.events, ...INTERRUPT_EVENTS } };
}

/** @throws UsageError ERR_CONFIG_ID */
export function validateId(id: string): void {
	if (/^[\w.:-]{1,64}$/.test(id)) return;
	throw new UsageError("ERR_CONFIG_ID", `Cannot use device id ${JSON.stringify(id)}: it is no plain name`, {
		hint: "Use 1 to 64 letters, digits and . _ : -",
	});
}

/** @throws UsageError ERR_CONFIG_ID, ERR_TOO_MANY_DEVICES */
function validateIds(devices: readonly DevicePlan[]): void {
	const taken = new Set<string>();
	for (const [i, { id }] of devices.entries()) {
		virtioSlot(i); /* is there */
		validateId(id);
		if (taken.has(id)) throw new UsageError("ERR_CONFIG_ID", `Cannot use device id "${id}" for two devices`);
		taken.add(id);
	}
}

/*
 * What a machine is made of, as data: the command line, a library user and a test all describe it so. Only the kernel
 * must be said; `completeConfig` fills in the rest and says what is wrong before anything on the host is touched.
 */
import type { BlockBackend, ConsoleBackend, NetBackend } from "../backends/contract.ts";
import { UsageError } from "../base/errors.ts";
import type { LogOptions } from "../base/log.ts";
import { MacAddress } from "../base/mac.ts";
import type { Observer } from "../base/observer.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { virtioSlot } from "./memory-map.ts";

/**
 * A virtio-blk disk (virtio 1.2 §5.2): a raw image file or a block device, or a backend of one's own, which belongs to
 * the machine from then on.
 */
export type DiskConfig = FileDiskConfig | OwnDiskConfig;

/** A disk in a raw image file or a block device of the host. */
export interface FileDiskConfig {
	/** Path of the file. It is locked: one machine may write to it, or several may read. */
	path: string;
	/**
	 * The file, open: used in place of the path, which then only names it. It stays the caller's, who may close it once
	 * the machine is created.
	 */
	fd?: number | undefined;
	/** The guest cannot write to it; false when missing. */
	readOnly?: boolean | undefined;
	/** Name on this machine and what VIRTIO_BLK_T_GET_ID answers, 1 to 20 characters; "disk0" by position when missing. */
	id?: string | undefined;
}

/** A disk whose backend is the caller's, such as a MemoryDisk. */
export interface OwnDiskConfig {
	/** Closed by the machine. */
	backend: BlockBackend;
	/** As of FileDiskConfig. */
	id?: string | undefined;
}

/**
 * A virtio-net interface (virtio 1.2 §5.1): an existing tap of the host by its name, a network of passt's ("user") with
 * ports of the host that lead to the guest, or a backend of one's own, which belongs to the machine from then on.
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

/** A port of the host that leads to a port of the guest (a net of kind "user"). */
export interface PortForward {
	/** Where the host listens; every address of the host when missing. */
	hostAddress?: string;
	/** 1 to 65535. */
	hostPort: number;
	/** 1 to 65535. */
	guestPort: number;
	/** What is forwarded. */
	protocol: "tcp" | "udp";
}

/** virtio-vsock (virtio 1.2 §5.10), with Firecracker's hybrid protocol on a unix socket. */
export interface VsockConfig {
	/** Guest context ID, 3 to 2^32 - 2; 3 when missing. */
	cid?: number | undefined;
	/** Path of the listening unix socket; guest-initiated connections go to `${uds}_${port}`. None: this process only. */
	uds?: string | undefined;
}

/**
 * Where the serial console goes: this process's stdin and stdout, a file, nowhere, or a console of one's own, which
 * belongs to the machine from then on. A console whose reader is slow makes the guest wait, and nothing else.
 */
export type ConsoleConfig =
	| { kind: "stdio" }
	| { kind: "file"; path: string }
	| { kind: "none" }
	| { kind: "own"; console: ConsoleBackend };

/** What `trace` can print in the machine's log, one line each: see TraceKind. */
export const TRACE_KINDS = ["pio", "mmio", "exits", "queues", "interrupts"] as const;

/**
 * What `trace` prints: accesses to devices by port or by address, every vCPU exit, kicks and chains of virtqueues, or
 * interrupts and the requests that end in one.
 */
export type TraceKind = (typeof TRACE_KINDS)[number];

/** What Machine.create takes. Backends, consoles and devices in it are the machine's to close, also when create fails. */
export interface MachineConfig {
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
	/** In the order in which the guest finds them: /dev/vda first. None when missing. */
	disks?: readonly DiskConfig[] | undefined;
	/** In the order in which the guest finds them. None when missing. */
	nets?: readonly NetConfig[] | undefined;
	/** A vsock device; none when missing. */
	vsock?: VsockConfig | undefined;
	/** An entropy device (virtio-rng); false when missing. */
	rng?: boolean | undefined;
	/** A virtio-console (hvc0) besides the serial port, which then has no input; false when missing. */
	virtioConsole?: boolean | undefined;
	/** Where the serial console goes; nowhere when missing. */
	console?: ConsoleConfig | undefined;
	/** Virtio devices of one's own, after all others. Their names are their ids on this machine. */
	devices?: readonly VirtioDevice[] | undefined;
	/** What to trace; nothing when missing. */
	trace?: readonly TraceKind[] | undefined;
	/**
	 * Listens to this machine from its start; nobody when missing. One with `access` sees accesses too that native code
	 * answers otherwise, for the price of an exit each.
	 */
	observer?: Observer | undefined;
	/** Where this machine's diagnostics go and how many; warnings and errors on stderr when missing. */
	log?: LogOptions | undefined;
	/** Aborting makes `create` fail with the signal's reason, and stops a machine that was created. */
	signal?: AbortSignal | undefined;
}

/** A configuration with all defaults filled in, as the machine's parts read it. */
export interface CompleteConfig extends MachineConfig {
	readonly cpus: number;
	readonly memoryMiB: number;
	/** Each with its id. */
	readonly disks: readonly (DiskConfig & { id: string })[];
	readonly nets: readonly (NetConfig & { id: string })[];
	readonly vsock: { cid: number; uds?: string | undefined } | undefined;
	readonly rng: boolean;
	readonly virtioConsole: boolean;
	readonly console: ConsoleConfig;
	readonly devices: readonly VirtioDevice[];
	readonly trace: readonly TraceKind[];
}

export const MAX_CPUS = 32;
export const MIN_MEMORY_MIB = 64;
/** Largest RAM, in MiB. A host whose CPUs address less (CPUID leaf 0x80000008) refuses what they do not reach. */
export const MAX_MEMORY_MIB = 1024 * 1024;
const DEFAULT_MEMORY_MIB = 256;
const DEFAULT_CID = 3;
/** What VIRTIO_BLK_T_GET_ID can say. */
const DISK_ID_BYTES = 20;

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
 * Checks everything that can be checked without the host, and fills in the defaults. The result is a copy: what the
 * caller does with `config` afterwards changes nothing.
 *
 * @throws UsageError naming the value and its range
 */
export function completeConfig(config: MachineConfig): CompleteConfig {
	const { cpus = 1, memoryMiB = DEFAULT_MEMORY_MIB } = config;
	if (typeof config.kernel !== "string" || config.kernel === "") {
		throw new UsageError("ERR_CONFIG_KERNEL", `Cannot boot kernel ${JSON.stringify(config.kernel)}: a path is wanted`);
	}
	validateSize(cpus, memoryMiB);
	const vsock = config.vsock && { cid: config.vsock.cid ?? DEFAULT_CID, uds: config.vsock.uds };
	if (vsock !== undefined && (!Number.isInteger(vsock.cid) || vsock.cid < 3 || vsock.cid > 0xffff_fffe)) {
		throw new UsageError("ERR_CONFIG_VSOCK", `Cannot use vsock cid ${vsock.cid}: 3 to 4294967294 are possible`);
	}
	const complete: CompleteConfig = {
		...config,
		cpus,
		memoryMiB,
		disks: (config.disks ?? []).map((disk, i) => ({ ...disk, id: disk.id ?? `disk${i}` })),
		nets: (config.nets ?? []).map((net, i) => ({ ...net, id: net.id ?? `net${i}` })),
		vsock,
		rng: config.rng ?? false,
		virtioConsole: config.virtioConsole ?? false,
		console: { ...(config.console ?? { kind: "none" }) },
		devices: [...(config.devices ?? [])],
		trace: [...(config.trace ?? [])],
	};
	for (const { mac } of complete.nets) {
		if (mac !== undefined) MacAddress.parse(mac);
	}
	validateIds(complete);
	return complete;
}

/** The id of each virtio device, in the order in which the guest finds them. */
export function deviceIds(config: CompleteConfig): string[] {
	return [
		...config.disks.map(({ id }) => id),
		...config.nets.map(({ id }) => id),
		...(config.vsock === undefined ? [] : ["vsock"]),
		...(config.rng ? ["rng"] : []),
		...(config.virtioConsole ? ["console"] : []),
		...config.devices.map(({ name }) => name),
	];
}

/** @throws UsageError ERR_CONFIG_ID */
export function validateId(id: string): void {
	if (/^[\w.:-]{1,64}$/.test(id)) return;
	throw new UsageError("ERR_CONFIG_ID", `Cannot use device id ${JSON.stringify(id)}: it is no plain name`, {
		hint: "Use 1 to 64 letters, digits and . _ : -",
	});
}

/** @throws UsageError ERR_CONFIG_DISK, ERR_CONFIG_ID, ERR_TOO_MANY_DEVICES */
function validateIds(config: CompleteConfig): void {
	for (const { id } of config.disks) {
		if (Buffer.byteLength(id) <= DISK_ID_BYTES) continue;
		throw new UsageError("ERR_CONFIG_DISK", `Cannot use disk id "${id}": it is longer than ${DISK_ID_BYTES} bytes`);
	}
	const taken = new Set<string>();
	for (const [i, id] of deviceIds(config).entries()) {
		virtioSlot(i); /* is there */
		validateId(id);
		if (taken.has(id)) throw new UsageError("ERR_CONFIG_ID", `Cannot use device id "${id}" for two devices`);
		taken.add(id);
	}
}

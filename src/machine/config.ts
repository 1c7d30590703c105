/*
 * What a machine is made of, as data: the command line, a library user and a test all describe it so. `validateConfig`
 * says what is wrong before anything on the host is touched.
 */
import { UsageError } from "../base/errors.ts";
import { MacAddress } from "../base/mac.ts";

/** A virtio-blk disk (virtio 1.2 §5.2). */
export interface DiskConfig {
	/** A raw image file or a block device. */
	path: string;
	readOnly: boolean;
	/** What VIRTIO_BLK_T_GET_ID answers, at most 20 bytes; the disk's position when missing. */
	id?: string;
}

/** A virtio-net interface (virtio 1.2 §5.1): an existing tap, or passt. */
export type NetConfig = { mac?: string } & ({ kind: "tap"; name: string } | { kind: "user"; ports?: PortForward[] });

/** A port of the host that leads to a port of the guest (--net user). */
export interface PortForward {
	hostAddress?: string;
	hostPort: number;
	guestPort: number;
	protocol: "tcp" | "udp";
}

/** virtio-vsock (virtio 1.2 §5.10) on a unix socket, with Firecracker's hybrid protocol. */
export interface VsockConfig {
	/** Guest context ID, 3 to 2^32 - 2. */
	cid: number;
	/** Path of the listening unix socket; guest-initiated connections go to `${uds}_${port}`. None: this process only. */
	uds?: string;
}

/** Where the serial console goes. */
export type ConsoleConfig = { kind: "stdio" } | { kind: "file"; path: string } | { kind: "none" };

/** What `--trace` prints on stderr: accesses to devices by port or by address, or every vCPU exit. */
export type TraceKind = "pio" | "mmio" | "exits";

export interface MachineConfig {
	kernel: string;
	initrd?: string;
	/** Appended to the machine's own command line. */
	cmdline?: string;
	/** vCPUs, 1 to 32. */
	cpus: number;
	/** RAM in MiB, 64 and up. */
	memoryMiB: number;
	disks: DiskConfig[];
	nets: NetConfig[];
	vsock?: VsockConfig;
	rng: boolean;
	/** A virtio-console (hvc0) besides the serial port. */
	virtioConsole?: boolean;
	console: ConsoleConfig;
	trace?: TraceKind[];
}

export const MAX_CPUS = 32;
export const MIN_MEMORY_MIB = 64;
/** Largest RAM, in MiB: 1 TiB keeps every guest address far below 2^46, the smallest MAXPHYADDR of 64-bit hosts. */
export const MAX_MEMORY_MIB = 1024 * 1024;

/** @throws UsageError ERR_CONFIG_CPUS, ERR_CONFIG_MEMORY */
export function validateSize(cpus: number, memoryMiB: number): void {
	if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS) {
		throw new UsageError("ERR_CONFIG_CPUS", `Cannot give the machine ${cpus} vCPUs: 1 to ${MAX_CPUS} are possible`);
	}
	if (!Number.isInteger(memoryMiB) || memoryMiB < MIN_MEMORY_MIB || memoryMiB > MAX_MEMORY_MIB) {
		throw new UsageError(
			"ERR_CONFIG_MEMORY",
			`Cannot give the machine ${memoryMiB} MiB of memory: ${MIN_MEMORY_MIB} MiB to ${MAX_MEMORY_MIB / 1024} GiB are possible`,
			{ hint: "--memory takes a number with a unit, as in --memory 512M" },
		);
	}
}

/**
 * Checks everything that can be checked without the host.
 *
 * @throws UsageError naming the value and its range
 */
export function validateConfig(config: MachineConfig): void {
	const { cpus, memoryMiB, vsock } = config;
	validateSize(cpus, memoryMiB);
	if (vsock !== undefined && (!Number.isInteger(vsock.cid) || vsock.cid < 3 || vsock.cid > 0xffff_fffe)) {
		throw new UsageError("ERR_CONFIG_VSOCK", `Cannot use vsock cid ${vsock.cid}: 3 to 4294967294 are possible`);
	}
	const ids = new Set<string>();
	for (const { id } of config.disks) {
		if (id === undefined) continue;
		if (Buffer.byteLength(id) > 20) {
			throw new UsageError("ERR_CONFIG_DISK", `Cannot use disk id "${id}": it is longer than 20 bytes`);
		}
		if (ids.has(id)) throw new UsageError("ERR_CONFIG_DISK", `Cannot use disk id "${id}" for two disks`);
		ids.add(id);
	}
	for (const { mac } of config.nets) {
		if (mac !== undefined) MacAddress.parse(mac);
	}
}

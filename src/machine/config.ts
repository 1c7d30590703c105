/*
 * What a machine is made of, as data: the command line, a library user and a test all describe it so. `validate` says
 * what is wrong before anything on the host is touched.
 */

/** A virtio-blk disk (virtio 1.2 §5.2). */
export interface DiskConfig {
	/** A raw image file or a block device. */
	path: string;
	readOnly: boolean;
	/** What VIRTIO_BLK_T_GET_ID answers, at most 20 bytes; the disk's position when missing. */
	id?: string;
}

/** A virtio-net interface (virtio 1.2 §5.1): an existing or creatable tap, or passt. */
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
	/** Path of the listening unix socket; guest-initiated connections go to `${uds}_${port}`. */
	uds: string;
}

/** Where the serial console goes. */
export type ConsoleConfig = { kind: "stdio" } | { kind: "file"; path: string } | { kind: "none" };

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
	/** Which accesses to print on stderr. */
	trace?: ("pio" | "mmio" | "exits")[];
}

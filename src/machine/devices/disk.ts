/*
 * The disks of a machine: virtio-blk devices on files of the host or on backends that the caller gives.
 */
import type { BlockBackend } from "../../backends/contract.ts";
import { DISK_FAULTS, FaultyDisk } from "../../backends/faulty-disk.ts";
import { type DiskFormat, openDisk } from "../../backends/open-disk.ts";
import { UsageError } from "../../base/errors.ts";
import { BlockDevice, MAX_BLOCK_QUEUES } from "../../virtio/block.ts";
import type { DeviceKind, DevicePlan, MachineShape, OpenOptions } from "../../virtio/device-kind.ts";

/**
 * A virtio-blk disk (virtio 1.2 §5.2): an image file, a block device, or your own backend, which the machine then
 * owns.
 */
export type DiskConfig = FileDiskConfig | OwnDiskConfig;

/** A disk in an image file or a block device of the host. */
export interface FileDiskConfig {
	/** Path of the file. It is locked: one machine may write to it, or several may read. */
	path: string;
	/**
	 * The file, open. It is used instead of the path, which then is only a name. The caller may close it when the machine
	 * is created.
	 */
	fd?: number | undefined;
	/** What is in the file: qcow2 when missing and the path ends in ".qcow2", else raw. */
	format?: DiskFormat | undefined;
	/** True: the guest cannot write to it. False when missing. */
	readOnly?: boolean | undefined;
	/** Name on this machine and answer to VIRTIO_BLK_T_GET_ID, 1 to 20 characters; "disk0" by position when missing. */
	id?: string | undefined;
	/** Queues, 1 to 32; one per vCPU, but at most 8, when missing. */
	queues?: number | undefined;
	/**
	 * True: what the guest reads and writes does not go through the host's page cache (O_DIRECT). False when missing.
	 */
	direct?: boolean | undefined;
}

/** A disk whose backend is the caller's, such as a MemoryDisk. */
export interface OwnDiskConfig {
	/** Closed by the machine. */
	backend: BlockBackend;
	/** As of FileDiskConfig. */
	id?: string | undefined;
	/** As of FileDiskConfig. */
	queues?: number | undefined;
}

/** The field of MachineConfig. */
export interface DiskFields {
	/** In the order in which the guest finds them: /dev/vda first. None when missing. */
	disks?: readonly DiskConfig[] | undefined;
}

/** The longest answer to VIRTIO_BLK_T_GET_ID, in bytes. */
const DISK_ID_BYTES = 20;
/** The most queues of a disk whose configuration does not say how many. One thread serves them all. */
const DEFAULT_QUEUES = 8;

export const diskKind: DeviceKind<DiskFields> = {
	given: ({ disks = [] }) => disks.flatMap((disk) => ("backend" in disk ? [disk.backend] : [])),
	plan: ({ disks = [] }, machine) => disks.map((disk, i) => diskPlan({ ...disk }, i, machine)),
};

function diskPlan(disk: DiskConfig, index: number, { cpus }: MachineShape): DevicePlan<BlockBackend> {
	const { id = `disk${index}`, queues = Math.min(cpus, DEFAULT_QUEUES) } = disk;
	if (Buffer.byteLength(id) > DISK_ID_BYTES) {
		throw new UsageError("ERR_CONFIG_DISK", `Cannot use disk id "${id}": it is longer than ${DISK_ID_BYTES} bytes`);
	}
	if (!Number.isInteger(queues) || queues < 1 || queues > MAX_BLOCK_QUEUES) {
		throw new UsageError(
			"ERR_CONFIG_DISK",
			`Cannot give disk "${id}" ${queues} queues: 1 to ${MAX_BLOCK_QUEUES} are possible`,
		);
	}
	return {
		id,
		faulty: {
			alias: `blk${index}`,
			events: DISK_FAULTS,
			wrap: (backend, faults) => new FaultyDisk(backend, faults),
		},
		open: (options) => openBackend(disk, options),
		create: (backend) => new BlockDevice(backend, { name: `virtio-blk${index}`, id, queues }),
	};
}

function openBackend(disk: DiskConfig, { enter }: OpenOptions): BlockBackend | Promise<BlockBackend> {
	if ("backend" in disk) return disk.backend;
	const { path, fd, format, readOnly = false, direct = false } = disk;
	return openDisk(path, format, { readOnly, direct, enter, ...(fd === undefined ? {} : { fd }) });
}

/*
 * The file systems of a machine: virtio-fs devices on directories of the host or on file systems that the caller gives.
 */
import type { FileSystem } from "../../backends/contract.ts";
import { HostDirectory } from "../../backends/host-directory/host-directory.ts";
import { UsageError } from "../../base/errors.ts";
import type { Closeable, DeviceKind, DevicePlan, OpenOptions } from "../../virtio/device-kind.ts";
import type { CacheMode } from "../../virtio/fs/cache-policy.ts";
import { encodeTag, FsDevice } from "../../virtio/fs/device.ts";

/**
 * A virtio-fs device (virtio 1.2 §5.11): a directory of the host, or a file system of one's own, which belongs to the
 * machine from then on. The guest mounts it by its tag: `mount -t virtiofs TAG /mnt`.
 */
export type FsConfig = DirectoryFsConfig | OwnFsConfig;

/** What all file systems have. */
interface AnyFsConfig {
	/** What the guest mounts, 1 to 36 bytes. */
	tag: string;
	/** What the guest may cache: "none", "auto" or "always"; "auto" when missing. */
	cache?: CacheMode | undefined;
	/** Name on this machine; "fs0" by position when missing. */
	id?: string | undefined;
}

/** A directory of the host. The guest never leaves it. */
export interface DirectoryFsConfig extends AnyFsConfig {
	/** Path of the directory. */
	path: string;
	/** The guest cannot change anything in it; false when missing. */
	readOnly?: boolean | undefined;
}

/** A file system that is the caller's, such as a MemoryFileSystem. */
export interface OwnFsConfig extends AnyFsConfig {
	/** Closed by the machine. */
	fileSystem: FileSystem;
}

/** The field of MachineConfig. */
export interface FsFields {
	/** File systems that the guest mounts by their tags. None when missing. */
	fs?: readonly FsConfig[] | undefined;
}

export const fsKind: DeviceKind<FsFields> = {
	given: ({ fs = [] }) => fs.flatMap((one) => ("fileSystem" in one ? [closeable(one.fileSystem)] : [])),
	plan: ({ fs = [] }) => {
		const tags = new Set<string>();
		return fs.map((one, i) => {
			if (tags.has(one.tag)) {
				throw new UsageError("ERR_FS_TAG", `Cannot use file system tag "${one.tag}" for two file systems`);
			}
			tags.add(one.tag);
			return fsPlan({ ...one }, i);
		});
	},
};

/** A file system with what closes it. */
interface Opened extends Closeable {
	readonly fileSystem: FileSystem;
}

function fsPlan(config: FsConfig, index: number): DevicePlan<Opened> {
	const { tag, cache = "auto", id = `fs${index}` } = config;
	encodeTag(tag); /* is one */
	const name = `virtio-fs${index}`;
	return {
		id,
		open: async (options) => closeable(await openFileSystem(config, options)),
		create: ({ fileSystem }) => new FsDevice(tag, fileSystem, { name, cache }),
	};
}

async function openFileSystem(config: FsConfig, { enter }: OpenOptions): Promise<FileSystem> {
	if ("fileSystem" in config) return config.fileSystem;
	return await HostDirectory.open(config.path, { readOnly: config.readOnly ?? false, enter });
}

function closeable(fileSystem: FileSystem): Opened {
	return { fileSystem, close: async () => await fileSystem.close?.() };
}

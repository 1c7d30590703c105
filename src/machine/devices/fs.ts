/*
 * The file systems of a machine: virtio-fs devices on file systems that the caller gives.
 */
import type { FileSystem } from "../../backends/contract.ts";
import type { DeviceKind, DevicePlan } from "../../virtio/device-kind.ts";
import type { CacheMode } from "../../virtio/fs/cache-policy.ts";
import { encodeTag, FsDevice } from "../../virtio/fs/device.ts";

/** A virtio-fs device (virtio 1.2 §5.11) on a file system of one's own, which belongs to the machine from then on. */
export interface FsConfig {
	/** What the guest mounts, 1 to 36 bytes: `mount -t virtiofs TAG /mnt`. */
	tag: string;
	/** What is in it. Closed by the machine. */
	fileSystem: FileSystem;
	/** What the guest may keep: "none", "auto" or "always"; "auto" when missing. */
	cache?: CacheMode | undefined;
	/** Name on this machine; "fs0" by position when missing. */
	id?: string | undefined;
}

/** The field of MachineConfig. */
export interface FsFields {
	/** File systems that the guest mounts by their tags. None when missing. */
	fs?: readonly FsConfig[] | undefined;
}

export const fsKind: DeviceKind<FsFields> = {
	given: ({ fs = [] }) => fs.map(({ fileSystem }) => ({ close: () => fileSystem.close?.() })),
	plan: ({ fs = [] }) => fs.map((config, i) => fsPlan({ ...config }, i)),
};

function fsPlan({ tag, fileSystem, cache = "auto", id }: FsConfig, index: number): DevicePlan {
	encodeTag(tag); /* is one */
	const name = `virtio-fs${index}`;
	return { id: id ?? `fs${index}`, create: () => new FsDevice(tag, fileSystem, { name, cache }) };
}

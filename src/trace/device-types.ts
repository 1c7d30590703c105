/*
 * The types of virtio devices by ID (virtio 1.2 §5), and by the beginning of the names that a machine gives its devices.
 */

const DEVICE_TYPES = [
	[1, "net"],
	[2, "blk"],
	[3, "console"],
	[4, "rng"],
	[5, "balloon"],
	[19, "vsock"],
	[26, "fs"],
] as const;

/** The class in a device's name. */
export type DeviceType = (typeof DEVICE_TYPES)[number][1];

/** All of them. */
export const DEVICE_TYPE_NAMES: readonly string[] = DEVICE_TYPES.map(([, type]) => type);

/** "blk" for 2; undefined for a type that is not known. */
export function typeOfId(deviceId: number): DeviceType | undefined {
	return DEVICE_TYPES.find(([id]) => id === deviceId)?.[1];
}

/** "blk" for "virtio-blk0"; undefined for a name of another form. */
export function typeOfName(device: string): DeviceType | undefined {
	const type = /^virtio-([a-z]+)\d*$/.exec(device)?.[1];
	return DEVICE_TYPES.find(([, known]) => known === type)?.[1];
}

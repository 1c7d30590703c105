/*
 * Virtio devices that the caller has made.
 */
import type { VirtioDevice } from "../../virtio/device.ts";
import type { DeviceKind } from "../../virtio/device-kind.ts";

/** The field of MachineConfig. */
export interface OwnDeviceFields {
	/** Your own virtio devices, after all others. Their names are their ids on this machine. */
	devices?: readonly VirtioDevice[] | undefined;
}

export const ownKind: DeviceKind<OwnDeviceFields> = {
	given: ({ devices = [] }) => devices,
	plan: ({ devices = [] }) => devices.map((device) => ({ id: device.name, create: () => device })),
};

/*
 * The kinds of virtio devices that a machine can be configured with, in the order in which the guest finds them. A new
 * kind is one line in this table: its fields come into MachineConfig, and its devices onto the machine.
 */
import { balloonKind } from "../virtio/balloon.ts";
import { consoleKind } from "../virtio/console.ts";
import type { DeviceKind } from "../virtio/device-kind.ts";
import { rngKind } from "../virtio/rng.ts";
import { diskKind } from "./devices/disk.ts";
import { fsKind } from "./devices/fs.ts";
import { netKind } from "./devices/net.ts";
import { ownKind } from "./devices/own.ts";
import { vsockKind } from "./devices/vsock.ts";

export const DEVICE_KINDS = [diskKind, netKind, vsockKind, fsKind, rngKind, consoleKind, balloonKind, ownKind] as const;

/** The fields of all kinds in a table, together. */
export type FieldsOf<Kinds> = Kinds extends readonly [DeviceKind<infer Fields>, ...infer Rest]
	? Fields & FieldsOf<Rest>
	: object;

/** The fields of MachineConfig that ask for virtio devices. */
export type DeviceFields = FieldsOf<typeof DEVICE_KINDS>;

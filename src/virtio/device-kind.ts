/*
 * The contract of a kind of virtio device: how a machine's configuration asks for such devices, and how they are made.
 * All kinds are in one table (machine/device-table.ts), and the machine goes over it:
 *
 *     plan: the fields of MachineConfig -> a list of devices      before anything on the host is touched
 *     open: a device's backend on the host
 *     create: the device on its backend                           when the machine is wired
 *
 * A kind that needs nothing of the host stands in the file of its device. One that opens a backend stands in
 * machine/devices, because a device does not know its backend's file.
 */
import type { ConsoleBackend } from "../backends/contract.ts";
import type { Enter } from "../base/enter.ts";
import type { DeviceFaults, FaultEvents } from "../base/faults.ts";
import type { VirtioDevice } from "./device.ts";

/** An object that the machine closes at its end. A second call does nothing. */
export interface Closeable {
	close(): void | Promise<void>;
}

/** A kind of device; `Fields` are its optional fields of MachineConfig. */
export interface DeviceKind<Fields> {
	/**
	 * The objects that the caller gave in these fields. The machine closes them, also when it refuses the configuration.
	 */
	given?(fields: Fields): readonly Closeable[];
	/**
	 * The devices that the fields ask for, in the order in which the guest finds them. The plans are copies: what the
	 * caller does with the fields afterwards changes nothing.
	 *
	 * @throws UsageError for what is wrong with a field
	 */
	plan(fields: Fields, machine: MachineShape): readonly DevicePlan[];
}

/** What a plan depends on besides its fields. */
export interface MachineShape {
	/** vCPUs. */
	readonly cpus: number;
}

/** A device that a machine will have. */
export interface DevicePlan<Backend extends Closeable | undefined = Closeable | undefined> {
	/** Its name on the machine. */
	readonly id: string;
	/** Kernel parameters for it. */
	readonly cmdline?: string;
	/** How its backend goes wrong on purpose. Without it only its interrupts can. */
	readonly faulty?: FaultyBackend<Backend>;
	/** Opens the backend. Without this method the device has none. */
	open?(options: OpenOptions): Backend | Promise<Backend>;
	/** Makes the device, which closes its backend from then on. */
	create(backend: Backend, options: CreateOptions): VirtioDevice;
}

/** How the backend of a device goes wrong on purpose (base/faults.ts). */
export interface FaultyBackend<Backend> {
	/** The device's short name in rules, such as "blk0". */
	readonly alias: string;
	/** What can go wrong. */
	readonly events: FaultEvents;
	/** Puts the faults in front of a backend. The result owns both. */
	wrap(backend: Backend, faults: DeviceFaults): Backend;
}

/** What a backend is opened with. */
export interface OpenOptions {
	/** The way into the machine. */
	readonly enter: Enter;
	/** Aborted when the caller gives up the machine. */
	readonly signal: AbortSignal | undefined;
}

/**
 * Gives pages of the guest's RAM back to the host. The guest finds any content there later.
 *
 * @param hva host address, a multiple of 4096
 * @param bytes a multiple of 4096
 */
export type DiscardPages = (hva: number, bytes: number) => void;

/** What a machine offers to its devices. */
export interface CreateOptions {
	/** The machine's console, for the device `name` as well. The device that asks last has the input. */
	consoleLine(name: string): ConsoleBackend;
	readonly discard: DiscardPages;
}

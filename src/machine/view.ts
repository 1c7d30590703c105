/*
 * What a machine looks like at one moment, as plain data: for people who look on, such as the inspector.
 */
import type { SavedState } from "../base/state.ts";
import type { TransportView } from "../virtio/view.ts";
import type { Wired } from "./builder.ts";
import { memoryMap, virtioSlot } from "./memory-map.ts";

/** A virtio device and its place. */
export interface VirtioView extends TransportView {
	readonly id: string;
	/** Guest-physical address of its registers. */
	readonly address: number;
	/** Its pin of the I/O APIC. */
	readonly gsi: number;
}

/** A device of the PC platform. */
export interface PlatformView {
	readonly name: string;
	/** Its first port. */
	readonly port: number;
	readonly ports: number;
	/** Its registers; missing for a device that has none. */
	readonly registers?: SavedState;
}

export interface MachineView {
	readonly cpus: number;
	readonly memoryMiB: number;
	readonly kernel: string;
	readonly cmdline: string;
	readonly ram: readonly { readonly gpa: number; readonly sizeBytes: number }[];
	readonly virtio: readonly VirtioView[];
	readonly platform: readonly PlatformView[];
}

/** The machine as it is now. Its devices are as between two accesses of the guest. */
export function viewMachine({ vcpus, memoryMiB, kernel, cmdline, slots, pio, platform }: Wired): MachineView {
	const virtio = slots.transports.map(({ id, slot, transport }) => {
		const { address, gsi } = virtioSlot(slot);
		return { id, address, gsi, ...transport.inspect() };
	});
	const ports = pio.devices.map(({ name, start, sizeBytes }) => {
		const registers = platform.stateful.get(name)?.save();
		return { name, port: start, ports: sizeBytes, ...(registers === undefined ? {} : { registers }) };
	});
	const { ram } = memoryMap(memoryMiB);
	return { cpus: vcpus.length, memoryMiB, kernel, cmdline, ram, virtio, platform: ports };
}

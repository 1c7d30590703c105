/*
 * The virtio devices of a machine by id, each in a slot of the MMIO bus. Devices can be added to empty slots and
 * removed while the machine runs. The guest is told by ACPI (devices/hot-plug.ts).
 */
import { StateError, UsageError } from "../base/errors.ts";
import { INTERRUPT_EVENTS } from "../base/faults.ts";
import type { HotPlug } from "../devices/hot-plug.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { MmioPlaceholder } from "../virtio/mmio.ts";
import type { Transport } from "../virtio/transport.ts";
import type { Wiring } from "./builder.ts";
import { validateId } from "./config.ts";
import { VIRTIO_SLOTS, type VirtioSlot, virtioSlot } from "./memory-map.ts";
import { VirtioAttachment } from "./virtio-attachment.ts";

/** Options of `removeDevice`. */
export interface RemoveOptions {
	/** True: does not wait for the driver, whose requests are never answered. False when missing. */
	force?: boolean | undefined;
	/** Aborting gives the device back to the guest; the call then fails with the signal's reason. */
	signal?: AbortSignal | undefined;
}

interface Placed {
	readonly device: VirtioDevice;
	readonly index: number;
	readonly attachment: VirtioAttachment;
	/** The device was added while the machine ran, and is closed here. */
	readonly added: boolean;
	leaving: boolean;
}

export class DeviceSlots {
	readonly #wiring: Wiring;
	readonly #hotPlug: HotPlug;
	readonly #placed = new Map<string, Placed>();
	/** Shadow words of slots that have had a device. */
	readonly #words = new Map<number, number>();
	/** Placeholders in slots whose device was removed. */
	readonly #placeholders = new Map<number, MmioPlaceholder>();
	#closed = false;

	constructor(wiring: Wiring, hotPlug: HotPlug) {
		this.#wiring = wiring;
		this.#hotPlug = hotPlug;
	}

	/** By id, in the order in which they came. */
	get devices(): ReadonlyMap<string, VirtioDevice> {
		return new Map([...this.#placed].map(([id, { device }]) => [id, device]));
	}

	/** Each with its id and the number of its slot, in the order in which they came. */
	get transports(): { id: string; slot: number; transport: Transport }[] {
		return [...this.#placed].map(([id, { index, attachment }]) => ({
			id,
			slot: index,
			transport: attachment.transport,
		}));
	}

	/** Where devices are now. */
	get slots(): VirtioSlot[] {
		return [...this.#placed.values()].map(({ attachment }) => attachment.slot);
	}

	/** Attaches a device that the guest finds at its start, to a certain slot if that is free. The caller closes it. */
	place(id: string, device: VirtioDevice, slot?: number): void {
		this.#hotPlug.occupy(this.#attach(id, device, false, slot).index);
	}

	/**
	 * Attaches a device to the running machine and tells the guest. From then on it is closed here.
	 *
	 * @throws UsageError ERR_CONFIG_ID, ERR_TOO_MANY_DEVICES; IoctlError. Then it is the caller's still
	 */
	add(id: string, device: VirtioDevice): void {
		validateId(id);
		if (this.#placed.has(id)) {
			throw new UsageError("ERR_CONFIG_ID", `Cannot use device id "${id}" for two devices`);
		}
		this.#hotPlug.insert(this.#attach(id, device, true).index);
	}

	/**
	 * Asks the guest to release a device, and closes it when the driver has reset it.
	 *
	 * @throws UsageError ERR_DEVICE_ID; StateError ERR_DEVICE_LEAVING when that was asked before
	 */
	async remove(id: string, { force = false, signal }: RemoveOptions = {}): Promise<void> {
		signal?.throwIfAborted();
		const placed = this.#find(id);
		if (placed.leaving && !force) throw leaving("remove", id);
		placed.leaving = true;
		this.#hotPlug.remove(placed.index);
		if (!force) await this.#released(placed, signal);
		if (this.#closed || this.#placed.get(id) !== placed) return;
		this.#placed.delete(id);
		placed.attachment.detach();
		this.#vacate(placed);
		await placed.device.close();
	}

	/**
	 * Replaces a device by another one with its state, and closes the old one.
	 *
	 * @throws UsageError ERR_DEVICE_ID; StateError ERR_DEVICE_LEAVING, ERR_STATE_UNSUPPORTED; SnapshotError ERR_STATE_MISMATCH and others when
	 * the new device does not take the state. Then the old one goes on, and the new one is the caller's still
	 */
	async replace(id: string, device: VirtioDevice): Promise<void> {
		const placed = this.#find(id);
		const { transport } = placed.attachment;
		if (placed.leaving) throw leaving("replace", id);
		await transport.quiesce();
		if (placed.leaving) {
			transport.resume();
			throw leaving("replace", id);
		}
		if (this.#closed || this.#placed.get(id) !== placed) throw gone(id);
		/* No await until the new one runs: the guest's accesses are served before or after. */
		try {
			this.#swap(id, placed, device);
		} finally {
			transport.resume();
		}
		await placed.device.close();
	}

	#swap(id: string, placed: Placed, device: VirtioDevice): void {
		const state = placed.attachment.transport.save();
		placed.attachment.detach();
		const attach = (next: VirtioDevice, added: boolean) => {
			const attachment = this.#attachTo(placed.index, id, next);
			this.#placed.set(id, { ...placed, device: next, attachment, added });
			attachment.transport.restore(state);
			attachment.transport.resume();
		};
		try {
			attach(device, true);
		} catch (error) {
			this.#placed.get(id)!.attachment.detach();
			attach(placed.device, placed.added);
			throw error;
		}
	}

	/** Takes all devices off the machine, after the vCPUs have stopped. */
	async close(): Promise<void> {
		this.#closed = true;
		for (const { attachment } of this.#placed.values()) attachment.close();
		for (const { attachment } of this.#placed.values()) attachment.transport.release();
		for (const { device, added } of this.#placed.values()) if (added) await device.close();
	}

	/** Of the device's slot. @throws UsageError ERR_DEVICE_ID */
	address(id: string): number {
		return this.#find(id).attachment.slot.address;
	}

	/** The device with this id. @throws UsageError ERR_DEVICE_ID */
	#find(id: string): Placed {
		const placed = this.#placed.get(id);
		if (placed !== undefined) return placed;
		const known = [...this.#placed.keys()].join(", ") || "none";
		throw new UsageError("ERR_DEVICE_ID", `Cannot find device ${JSON.stringify(id)}: the machine has ${known}`);
	}

	#attach(id: string, device: VirtioDevice, added: boolean, slot?: number): Placed {
		const index = this.#freeSlot(slot);
		const attachment = this.#attachTo(index, id, device);
		const placed = { device, index, attachment, added, leaving: false };
		this.#placed.set(id, placed);
		return placed;
	}

	#attachTo(index: number, id: string, device: VirtioDevice): VirtioAttachment {
		const placeholder = this.#placeholders.get(index);
		if (placeholder !== undefined) this.#wiring.mmio.remove(placeholder);
		const { enter } = this.#wiring.entry;
		const faults = this.#wiring.faults?.of(id, INTERRUPT_EVENTS, enter);
		const point = { ...this.#wiring, enter, faults };
		const attachment = new VirtioAttachment(device, virtioSlot(index), point, this.#words.get(index));
		this.#words.set(index, attachment.word);
		return attachment;
	}

	#vacate({ index, attachment: { slot } }: Placed): void {
		const placeholder = this.#placeholders.get(index) ?? new MmioPlaceholder();
		this.#placeholders.set(index, placeholder);
		this.#wiring.mmio.add(slot.address, slot.sizeBytes, placeholder);
	}

	/**
	 * A slot without a device, one that never had any if possible: Linux keeps the platform device of an emptied slot and
	 * does not probe it again by itself. @throws UsageError ERR_TOO_MANY_DEVICES
	 */
	#freeSlot(wanted?: number): number {
		const taken = new Set([...this.#placed.values()].map(({ index }) => index));
		const free = Array.from({ length: VIRTIO_SLOTS }, (_, index) => index).filter((index) => !taken.has(index));
		if (wanted !== undefined && free.includes(wanted)) return wanted;
		const index = free.find((candidate) => !this.#words.has(candidate)) ?? free[0] ?? VIRTIO_SLOTS;
		virtioSlot(index); /* is there */
		return index;
	}

	/**
	 * Waits until the driver has released the device. If `signal` aborts, the guest keeps the device, and this throws the
	 * signal's reason.
	 */
	async #released(placed: Placed, signal: AbortSignal | undefined): Promise<void> {
		const aborted = new Promise<void>((resolve) => signal?.addEventListener("abort", () => resolve(), { once: true }));
		await Promise.race([placed.attachment.transport.released(), aborted]);
		if (!(signal?.aborted ?? false) || this.#closed) return;
		placed.leaving = false;
		this.#hotPlug.insert(placed.index);
		signal?.throwIfAborted();
	}
}

function gone(id: string): StateError {
	return new StateError("ERR_MACHINE_STATE", `Cannot replace device "${id}": it is gone meanwhile`);
}

function leaving(what: string, id: string): StateError {
	return new StateError(
		"ERR_DEVICE_LEAVING",
		`Cannot ${what} device "${id}": the guest has been asked to let go of it`,
	);
}

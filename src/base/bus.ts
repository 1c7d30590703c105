/*
 * An address space of devices: one instance for port I/O, one for MMIO. A vCPU exit lands here with an address; the bus
 * finds the device that owns the range and calls it with an offset. Reads of nothing give all ones, writes to nothing
 * vanish, as on a PC.
 */
import { UsageError } from "./errors.ts";
import { Observers } from "./observer.ts";

/**
 * What sits on a bus. `offset` is in bytes from the start of the device's range; `size` is 1, 2 or 4. Values are
 * unsigned. Every value comes from the guest: a device checks it and never throws.
 */
export interface BusDevice {
	/** For traces and messages: "serial", "virtio-blk0". */
	readonly name: string;
	read(offset: number, size: number): number;
	/**
	 * A promise keeps the vCPU that writes from going on until it resolves; it does not reject. Only for MMIO that is not
	 * posted: nobody waits elsewhere.
	 */
	write(offset: number, size: number, value: number): void | Promise<void>;
}

/** The first access of several when a device cannot take `size` bytes at once: a store over a page's end leaves 3 or 5. */
function partBytes(size: number): number {
	return size >= 4 ? 4 : Math.min(size, 2);
}

interface Range {
	start: number;
	end: number;
	device: BusDevice;
}

export class Bus {
	readonly #name: "pio" | "mmio";
	readonly #observers: Observers;
	readonly #ranges: Range[] = [];
	#last: Range | undefined;

	/** @param name which of the two address spaces this is, for observers */
	constructor(name: "pio" | "mmio" = "mmio", observers = new Observers()) {
		this.#name = name;
		this.#observers = observers;
	}

	/**
	 * Gives `device` the addresses [start, start + sizeBytes).
	 *
	 * @throws UsageError when the range overlaps another device's
	 */
	add(start: number, sizeBytes: number, device: BusDevice): void {
		const end = start + sizeBytes;
		const other = this.#ranges.find((r) => start < r.end && r.start < end);
		if (other !== undefined) {
			throw new UsageError(
				"ERR_BUS_OVERLAP",
				`Cannot place ${device.name} at 0x${start.toString(16)}: ${other.device.name} is there`,
			);
		}
		this.#ranges.push({ start, end, device });
	}

	/** Takes a device away again; accesses to its addresses find nothing. */
	remove(device: BusDevice): void {
		const at = this.#ranges.findIndex((range) => range.device === device);
		if (at >= 0) this.#ranges.splice(at, 1);
		this.#last = undefined;
	}

	/** Reads 1 to 8 bytes into `data` (little endian), as the kernel's exit structure wants them. */
	read(address: number, data: Uint8Array): void {
		const part = partBytes(data.length);
		if (part < data.length) {
			this.read(address, data.subarray(0, part));
			this.read(address + part, data.subarray(part));
			return;
		}
		const size = data.length;
		const range = this.#find(address, size);
		const value = range === undefined ? 0xffffffff : range.device.read(address - range.start, size);
		for (let i = 0; i < size; i++) data[i] = value >>> (8 * i);
		this.#observers.observer?.access?.(this.#name, range?.device.name ?? "nothing", false, address, size, value);
	}

	/** Writes the 1 to 8 bytes of `data` (little endian). A promise resolves when the device has done what was written. */
	write(address: number, data: Uint8Array): void | Promise<void> {
		const part = partBytes(data.length);
		if (part < data.length) {
			const first = this.write(address, data.subarray(0, part));
			const rest = this.write(address + part, data.subarray(part));
			return rest instanceof Promise ? rest : first;
		}
		const size = data.length;
		let value = 0;
		for (let i = 0; i < size; i++) value |= data[i]! << (8 * i);
		return this.writeValue(address, size, value >>> 0);
	}

	/** Writes an unsigned value of 1, 2 or 4 bytes: a write that was posted. */
	writeValue(address: number, size: number, value: number): void | Promise<void> {
		const range = this.#find(address, size);
		const done = range?.device.write(address - range.start, size, value);
		this.#observers.observer?.access?.(this.#name, range?.device.name ?? "nothing", true, address, size, value);
		return done;
	}

	#find(address: number, size: number): Range | undefined {
		const last = this.#last;
		if (last !== undefined && address >= last.start && address + size <= last.end) return last;
		for (const range of this.#ranges) {
			if (address >= range.start && address + size <= range.end) {
				this.#last = range;
				return range;
			}
		}
		return undefined;
	}
}

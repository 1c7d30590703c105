/*
 * An address space of devices: one instance for port I/O, one for MMIO. A vCPU exit brings an address. The bus finds
 * the device with that range and calls it with the offset. Where no device is, a read gives all ones and a write does
 * nothing, as on a PC.
 */
import { UsageError } from "./errors.ts";
import { Observers } from "./observer.ts";

/**
 * A device on a bus. `offset` is in bytes from the start of its range, `size` is 1, 2 or 4, and values are unsigned.
 * Every value comes from the guest: a device checks it and never throws.
 */
export interface BusDevice {
	/** For traces and messages: "serial", "virtio-blk0". */
	readonly name: string;
	read(offset: number, size: number): number;
	/**
	 * Writes a value. The vCPU waits for a returned promise, which must not reject. Only MMIO that is not posted may
	 * return one: no other access waits.
	 */
	write(offset: number, size: number, value: number): void | Promise<void>;
}

/**
 * The size of the first access, when `size` bytes cannot be one access. A store across the end of a page may have 3 or
 * 5 bytes.
 */
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

	/** The devices with their ranges, in the order of their addresses. */
	get devices(): { readonly name: string; readonly start: number; readonly sizeBytes: number }[] {
		return this.#ranges
			.map(({ start, end, device }) => ({ name: device.name, start, sizeBytes: end - start }))
			.sort((a, b) => a.start - b.start);
	}

	/** Removes a device. Accesses to its addresses then find none. */
	remove(device: BusDevice): void {
		const at = this.#ranges.findIndex((range) => range.device === device);
		if (at >= 0) this.#ranges.splice(at, 1);
		this.#last = undefined;
	}

	/** Reads 1 to 8 bytes into `data` (little endian), as struct kvm_run needs them. */
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

	/**
	 * Writes the 1 to 8 bytes of `data` (little endian). A returned promise resolves when the device has carried out the
	 * write.
	 */
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

	/** Delivers a posted write: an unsigned value of 1, 2 or 4 bytes. */
	writeValue(address: number, size: number, value: number): void | Promise<void> {
		const range = this.#find(address, size);
		this.#observers.observer?.access?.(this.#name, range?.device.name ?? "nothing", true, address, size, value);
		return range?.device.write(address - range.start, size, value);
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

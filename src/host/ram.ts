/*
 * Guest RAM on the host: one mapping for all of it, cut into windows of at most 2 GiB because an ArrayBuffer is
 * limited. The windows are what GuestMemory and KVM's memory slots are made of; `close` empties them, so that a late
 * access throws instead of touching unmapped memory.
 */
import { HostError } from "../base/errors.ts";
import type { MemoryRegion } from "../base/guest-memory.ts";
import { type Handle, native } from "./native.ts";

const WINDOW_BYTES = 2 ** 31;

/** A part of the guest's address space that shall be RAM; both multiples of 4096. */
export interface RamRange {
	readonly gpa: number;
	readonly sizeBytes: number;
}

export class GuestRam {
	/** Adjacent ranges of more than 2 GiB are several regions. */
	readonly regions: readonly MemoryRegion[];
	readonly #mappings: Handle[];
	#open = true;

	private constructor(regions: MemoryRegion[], mappings: Handle[]) {
		this.regions = regions;
		this.#mappings = mappings;
	}

	/**
	 * Maps RAM for all ranges. Pages take room only once they are touched.
	 *
	 * @throws HostError ERR_RAM_MAP when the host refuses
	 */
	static map(ranges: readonly RamRange[]): GuestRam {
		const regions: MemoryRegion[] = [];
		const mappings: Handle[] = [];
		try {
			for (const { gpa, sizeBytes } of ranges) {
				const { ram, hva, windows } = native().ramMap(sizeBytes, WINDOW_BYTES);
				mappings.push(ram);
				windows.forEach((buffer, i) => {
					const at = i * WINDOW_BYTES;
					regions.push({ gpa: gpa + at, sizeBytes: buffer.byteLength, hva: hva + at, buffer });
				});
			}
		} catch (cause) {
			for (const mapping of mappings) native().ramUnmap(mapping);
			const mib = ranges.reduce((sum, range) => sum + range.sizeBytes, 0) / 2 ** 20;
			throw new HostError("ERR_RAM_MAP", `Cannot map ${mib} MiB of guest memory: ${(cause as Error).message}`, {
				hint: "give the machine less --memory, or the host more memory or swap",
				cause,
			});
		}
		return new GuestRam(regions, mappings);
	}

	/** Unmaps everything; only when no vCPU runs and no I/O is in flight. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		for (const mapping of this.#mappings) native().ramUnmap(mapping);
	}
}

/*
 * Guest RAM on the host: one mapping for all of it, cut into windows of at most 2 GiB because an ArrayBuffer is
 * limited. The windows are what GuestMemory and KVM's memory slots are made of; `close` empties them, so that a late
 * access throws instead of touching unmapped memory.
 */
import { HostError } from "../base/errors.ts";
import type { MemoryRegion } from "../base/guest-memory.ts";
import { native } from "./native.ts";

const WINDOW_BYTES = 2 ** 31;

/** A part of the guest's address space that shall be RAM; both multiples of 4096. */
export interface RamRange {
	readonly gpa: number;
	readonly sizeBytes: number;
}

export class GuestRam {
	/** Adjacent ranges of more than 2 GiB are several regions. */
	readonly regions: readonly MemoryRegion[];
	readonly #hvas: number[];
	#open = true;

	private constructor(regions: MemoryRegion[], hvas: number[]) {
		this.regions = regions;
		this.#hvas = hvas;
	}

	/**
	 * Maps RAM for all ranges. Pages take room only once they are touched.
	 *
	 * @throws HostError ERR_RAM_MAP when the host refuses
	 */
	static map(ranges: readonly RamRange[]): GuestRam {
		const regions: MemoryRegion[] = [];
		const hvas: number[] = [];
		try {
			for (const { gpa, sizeBytes } of ranges) {
				const { hva, windows } = native().ramMap(sizeBytes, WINDOW_BYTES);
				hvas.push(hva);
				windows.forEach((buffer, i) => {
					const at = i * WINDOW_BYTES;
					regions.push({ gpa: gpa + at, sizeBytes: buffer.byteLength, hva: hva + at, buffer });
				});
			}
		} catch (cause) {
			for (const hva of hvas) native().ramUnmap(hva);
			const mib = ranges.reduce((sum, range) => sum + range.sizeBytes, 0) / 2 ** 20;
			throw new HostError("ERR_RAM_MAP", `Cannot map ${mib} MiB of guest memory: ${(cause as Error).message}`, {
				hint: "give the machine less --memory, or the host more memory or swap",
				cause,
			});
		}
		return new GuestRam(regions, hvas);
	}

	/** Unmaps everything; only when no vCPU runs and no I/O is in flight. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		for (const hva of this.#hvas) native().ramUnmap(hva);
	}
}

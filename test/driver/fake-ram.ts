/*
 * Guest RAM for tests: ordinary ArrayBuffers behind a GuestMemory. It has one region, or several with a hole as on a
 * machine with more than 3 GiB. A bump allocator gives memory to the driver.
 */
import { GuestMemory, type MemoryRegion } from "../../src/base/guest-memory.ts";

const PAGE = 4096;

/** Regions as tests name them: `[gpa, sizeBytes]`. */
export type FakeRegion = readonly [gpa: number, sizeBytes: number];

/** One MiB at 0. */
export const SMALL: readonly FakeRegion[] = [[0, 1 << 20]];
/** Two regions that touch (a buffer may cross from one to the other), a hole, and one above 4 GiB. */
export const SPLIT: readonly FakeRegion[] = [
	[0, 256 << 10],
	[256 << 10, 256 << 10],
	[0x1_0000_0000, 512 << 10],
];

export class FakeRam {
	readonly memory: GuestMemory;
	/** Next free guest address of each region; the first page stays unused, so that 0 is never a valid buffer. */
	readonly #next: number[];

	constructor(
		regions: readonly FakeRegion[] = SMALL,
		map?: (sizeBytes: number) => Pick<MemoryRegion, "hva" | "buffer">,
	) {
		this.memory = new GuestMemory(
			regions.map(([gpa, sizeBytes]) => ({
				gpa,
				sizeBytes,
				...(map?.(sizeBytes) ?? { hva: 0, buffer: new ArrayBuffer(sizeBytes) }),
			})),
		);
		this.#next = this.memory.windows.map((w) => Math.max(w.gpa, PAGE));
	}

	/** Takes zeroed memory; from region `region`, or from the first that has room. */
	alloc(bytes: number, align = 16, region?: number): number {
		for (let i = region ?? 0; i <= (region ?? this.#next.length - 1); i++) {
			const gpa = Math.ceil(this.#next[i]! / align) * align;
			if (gpa + bytes > this.memory.windows[i]!.end) continue;
			this.#next[i] = gpa + bytes;
			this.memory.bytes(gpa, bytes).fill(0);
			return gpa;
		}
		throw new Error(`the fake RAM has no ${bytes} bytes left`);
	}

	/** A copy of the bytes at `gpa`, over adjacent regions if need be. */
	copy(gpa: number, length: number): Uint8Array {
		const out = new Uint8Array(length);
		for (let done = 0; done < length; ) {
			const window = this.memory.find(gpa + done, 1);
			if (window === undefined) throw new Error(`0x${(gpa + done).toString(16)} is not in the fake RAM`);
			const part = Math.min(length - done, window.end - gpa - done);
			out.set(this.memory.bytes(gpa + done, part), done);
			done += part;
		}
		return out;
	}

	/** A copy of everything, to compare later with `changes`. */
	snapshot(): Uint8Array[] {
		return this.memory.windows.map((w) => w.bytes.slice());
	}

	/** Makes everything as it was at a snapshot. */
	rewind(before: readonly Uint8Array[]): void {
		this.memory.windows.forEach((w, i) => {
			w.bytes.set(before[i]!);
		});
	}

	/** Guest addresses of all bytes that differ from a snapshot, in the regions that begin below `limit`. */
	changes(before: Uint8Array[], limit = Number.POSITIVE_INFINITY): number[] {
		const out: number[] = [];
		this.memory.windows.forEach((w, i) => {
			const old = before[i]!;
			if (w.gpa >= limit || Buffer.compare(old, w.bytes) === 0) return;
			for (let at = 0; at < old.length; at++) if (old[at] !== w.bytes[at]) out.push(w.gpa + at);
		});
		return out;
	}
}

/*
 * Guest RAM on the host. It is one mapping, cut into windows of at most 2 GiB because an ArrayBuffer is limited.
 * GuestMemory and KVM's memory slots are made of these windows. `close` empties them, so a late access throws and does
 * not touch unmapped memory.
 *
 *     guest-physical   0        3 GiB       4 GiB    5 GiB        hva = gpa modulo 2 MiB: where the host gives huge
 *                      |=========|  hole    |=========|           pages, KVM maps the guest by 2 MiB, too
 *     host-virtual     |=========|=========|
 *
 * The memory stays mapped while the host's kernel may still write there (native/ram.c): a disk read that comes late
 * never meets another machine's memory.
 */
import { open } from "node:fs/promises";
import { constants } from "node:os";
import { errnoName, HostError } from "../base/errors.ts";
import type { MemoryRegion } from "../base/guest-memory.ts";
import { PAGE_BYTES, type PageRun, PageSet } from "../base/page-set.ts";
import { MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_REMOVE, madvise } from "./libc.ts";
import { type Handle, native } from "./native.ts";

const WINDOW_BYTES = 2 ** 31;
const HUGE_PAGE_BYTES = 2 ** 21;

/** A part of the guest's address space to be RAM. Both numbers are multiples of 4096. */
export interface RamRange {
	/** Guest-physical address of the first byte. */
	readonly gpa: number;
	/** Its size. */
	readonly sizeBytes: number;
}

/**
 * What the RAM is made of. "anonymous": private memory, with transparent huge pages on nearly every host. "memfd": a
 * file without a name that other processes can map by its descriptor; on most hosts it has no huge pages, since they
 * have /sys/kernel/mm/transparent_hugepage/shmem_enabled at "never". docs/hot-path.md has the whole table.
 */
export type RamBacking = "anonymous" | "memfd";

/** How RAM is mapped. */
export interface RamOptions {
	/** What it is made of; "anonymous" when missing. */
	backing?: RamBacking;
	/**
	 * The descriptor of a file of `fileBytes`, for private memory that begins with its content: pages are read when they
	 * are touched. It may be closed afterwards. If the file is shortened while it is mapped, this process gets SIGBUS.
	 */
	image?: number | undefined;
}

/** A part of a file. Both numbers are multiples of 4096. */
export interface RamPart {
	/** The file's descriptor. */
	readonly fd: number;
	/** Where it begins in the file. */
	readonly offset: number;
	/** Its size. */
	readonly bytes: number;
}

/** More parts are read, because a process may have 65530 mappings (vm.max_map_count). */
const MAX_MAPPED_PARTS = 4096;
/** Of /proc/PID/pagemap, a word of 64 bits per page (Documentation/admin-guide/mm/pagemap.rst): bits of its upper half. */
const PM_FILE = 1 << 29;
const PM_SWAP_OR_PRESENT = 0b11 << 30;
const PAGEMAP_PAGES = 1 << 17;

/** A guest's RAM, mapped on the host. Its owner closes it after the last vCPU has stopped. */
export class GuestRam {
	/** Where it is, for KVM_SET_USER_MEMORY_REGION and GuestMemory. Adjacent ranges of more than 2 GiB are several regions. */
	readonly regions: readonly MemoryRegion[];
	/** Where each range begins in the memfd or image, in the order of the ranges. The bytes between them are unused. */
	readonly offsets: readonly number[];
	/** The memfd, open until `close`; its size is sealed. Undefined for anonymous memory. */
	readonly fd: number | undefined;
	/** Bytes of a file that holds all of it, see `parts`. */
	readonly fileBytes: number;
	readonly #places: readonly number[];
	readonly #mapping: Handle;
	/** Parts that were read: a discard leaves what is below them. */
	#copied: readonly RamPart[] = [];
	#open = true;

	private constructor(
		regions: MemoryRegion[],
		{ offsets, sizeBytes, places }: { offsets: number[]; sizeBytes: number; places: number[] },
		fd: number | undefined,
		mapping: Handle,
	) {
		this.regions = regions;
		this.fileBytes = sizeBytes;
		this.#places = places;
		this.offsets = offsets;
		this.fd = fd;
		this.#mapping = mapping;
	}

	/**
	 * Maps RAM for all ranges. Pages take room only once they are touched.
	 *
	 * @throws HostError ERR_RAM_MAP when the host refuses, ERR_NATIVE_MISSING, ERR_NATIVE_ABI
	 */
	static map(ranges: readonly RamRange[], { backing = "anonymous", image = -1 }: RamOptions = {}): GuestRam {
		const { offsets, sizeBytes } = layOut(ranges);
		const cuts = ranges.flatMap((range, i) => cut(range, offsets[i]!));
		const pairs = Float64Array.from(cuts.flatMap((window) => [window.offset, window.sizeBytes]));
		const { ramMap } = native();
		try {
			const { ram, hva, windows, fd } = ramMap(sizeBytes, pairs, backing === "memfd", image);
			const regions = cuts.map(({ gpa, offset, sizeBytes }, i) => {
				return { gpa, sizeBytes, hva: hva + offset, buffer: windows[i]! };
			});
			const layout = { offsets, sizeBytes, places: cuts.map(({ offset }) => offset) };
			return new GuestRam(regions, layout, fd < 0 ? undefined : fd, ram);
		} catch (cause) {
			throw mapError(ranges, cause);
		}
	}

	/** Where the mapping begins on the host. */
	get #base(): number {
		return this.regions[0]!.hva - this.#places[0]!;
	}

	/** All of its bytes, and where each part is in a file for `RamOptions.image`. */
	get parts(): { bytes: Uint8Array; offset: number }[] {
		return this.regions.map(({ buffer }, i) => ({ bytes: new Uint8Array(buffer), offset: this.#places[i]! }));
	}

	/**
	 * Lays parts of files over private memory, each where it is in its file, before anybody uses the memory. They are as
	 * `RamOptions.image` otherwise.
	 *
	 * @throws HostError ERR_RAM_MAP when the host refuses
	 */
	layOver(parts: readonly RamPart[]): void {
		const longest = parts.toSorted((a, b) => b.bytes - a.bytes);
		const triples = Float64Array.from(longest.flatMap(({ fd, offset, bytes }) => [fd, offset, bytes]));
		this.#copied = longest.slice(MAX_MAPPED_PARTS);
		try {
			native().ramOverlay(this.#mapping, triples, MAX_MAPPED_PARTS);
		} catch (cause) {
			throw mapError(this.regions, cause);
		}
	}

	/**
	 * The pages that differ from the image, or from zeroes without one, by where they are in a file. Nearly all do differ:
	 * they were written by the guest or a device, and so they are pages of this process alone. All pages where the host
	 * does not tell.
	 *
	 * @param pagemap for tests
	 */
	async writtenPages(pagemap = "/proc/self/pagemap"): Promise<PageSet> {
		const count = this.fileBytes / PAGE_BYTES;
		const written = new PageSet(count);
		for (const { offset, bytes } of this.#copied) written.add(offset / PAGE_BYTES, (offset + bytes) / PAGE_BYTES);
		try {
			await this.#eachPresent(pagemap, (page, isOfFile) => isOfFile || written.add(page));
		} catch {
			written.add(0, count);
		}
		return written;
	}

	/** Whether the host maps it by 2 MiB where it can, as at first, or by 4 KiB, so that `touchedPages` tells more closely. */
	useHugePages(may: boolean): void {
		if (this.#open) madvise(this.#base, this.fileBytes, may ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	}

	/**
	 * The pages that were used since the mapping, by where they are in a file, and some beside them: the host maps all that
	 * it has in its page cache of sixteen pages, or with huge pages of 512.
	 *
	 * @throws an error where the host does not tell
	 */
	async touchedPages(): Promise<PageSet> {
		const touched = new PageSet(this.fileBytes / PAGE_BYTES);
		await this.#eachPresent("/proc/self/pagemap", (page) => touched.add(page));
		return touched;
	}

	/**
	 * Begins to read pages of an image, so that nobody waits for them later. It ends by itself, at the latest with the
	 * mapping. That the host does not do it is no error.
	 */
	prefetch(runs: Iterable<PageRun>): void {
		const pairs = Array.from(runs, ([start, end]) => [start * PAGE_BYTES, (end - start) * PAGE_BYTES]);
		if (this.#open && pairs.length > 0) native().ramPrefetch(this.#mapping, Float64Array.from(pairs.flat()));
	}

	/** Calls `visit` with each page that the mapping has, and whether it is the file's. @throws where the host does not tell */
	async #eachPresent(pagemap: string, visit: (page: number, isOfFile: boolean) => void): Promise<void> {
		const count = this.fileBytes / PAGE_BYTES;
		const first = this.#base / PAGE_BYTES;
		const buffer = Buffer.alloc(Math.min(count, PAGEMAP_PAGES) * 8);
		await using file = await open(pagemap);
		for (let page = 0; page < count; page += PAGEMAP_PAGES) {
			const bytes = Math.min(PAGEMAP_PAGES, count - page) * 8;
			const { bytesRead } = await file.read(buffer, 0, bytes, (first + page) * 8);
			if (bytesRead < bytes) throw new Error("pagemap has an end");
			for (let at = 0; at < bytes; at += 8) {
				const high = buffer.readInt32LE(at + 4);
				if ((high & PM_SWAP_OR_PRESENT) !== 0) visit(page + at / 8, (high & PM_FILE) !== 0);
			}
		}
	}

	/**
	 * Gives pages back to the host, at any time. They have other content later: zeroes, or what the image has there.
	 *
	 * @param hva host address, a multiple of 4096
	 * @param bytes a multiple of 4096
	 */
	discard(hva: number, bytes: number): void {
		const at = hva - this.#base;
		if (!(at >= 0) || !(at + bytes <= this.fileBytes) || hva % PAGE_BYTES !== 0 || bytes % PAGE_BYTES !== 0)
			throw new RangeError(`${bytes} bytes at ${hva} are no pages of RAM`);
		/* Without effect where the pages are pinned. The memfd has its pages apart from the mapping. */
		if (this.#open) madvise(hva, bytes, this.fd === undefined ? MADV_DONTNEED : MADV_REMOVE);
	}

	/** Empties the windows at once, and gives the memory back when no I/O is in flight there. No vCPU may run. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		native().ramUnmap(this.#mapping);
	}
}

/** Places the ranges one after the other. Each is as far from a multiple of 2 MiB as its guest-physical address. */
function layOut(ranges: readonly RamRange[]): { offsets: number[]; sizeBytes: number } {
	let end = 0;
	const offsets = ranges.map(({ gpa, sizeBytes }) => {
		const offset = Math.ceil(end / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES + (gpa % HUGE_PAGE_BYTES);
		end = offset + sizeBytes;
		return offset;
	});
	return { offsets, sizeBytes: Math.ceil(end / PAGE_BYTES) * PAGE_BYTES };
}

function cut({ gpa, sizeBytes }: RamRange, offset: number) {
	return Array.from({ length: Math.ceil(sizeBytes / WINDOW_BYTES) }, (_, i) => {
		const at = i * WINDOW_BYTES;
		return { gpa: gpa + at, offset: offset + at, sizeBytes: Math.min(WINDOW_BYTES, sizeBytes - at) };
	});
}

function mapError(ranges: readonly RamRange[], cause: unknown): unknown {
	const errno = errnoName(cause);
	if (errno === undefined || !(errno in constants.errno)) return cause;
	const mib = ranges.reduce((sum, range) => sum + range.sizeBytes, 0) / 2 ** 20;
	return new HostError("ERR_RAM_MAP", `Cannot map ${mib} MiB of guest memory: ${(cause as Error).message}`, {
		hint: errno === "ENOMEM" ? "Give the machine less --memory, or the host more memory or swap" : undefined,
		cause,
	});
}

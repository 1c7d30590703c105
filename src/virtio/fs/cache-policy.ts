/*
 * What the guest may cache of a file system, and for how long.
 *
 *     none    nothing: each look asks the file system, and reads and writes bypass the guest's page cache
 *     auto    names and attributes for a second, data from one open to the next while the file has not changed
 *     always  all, for as long as it likes: for a file system that nobody else changes
 */
import type { Attributes } from "../../backends/contract.ts";
import {
	FOPEN_CACHE_DIR,
	FOPEN_DIRECT_IO,
	FOPEN_KEEP_CACHE,
	FOPEN_PARALLEL_DIRECT_WRITES,
	FUSE_AUTO_INVAL_DATA,
	FUSE_CACHE_SYMLINKS,
} from "./constants.ts";
import type { NodeEntry } from "./node-table.ts";

/** How much a guest caches of a file system. */
export type CacheMode = "none" | "auto" | "always";

const DAY_SECONDS = 86_400;
const SECONDS: Record<CacheMode, number> = { none: 0, auto: 1, always: DAY_SECONDS };
/** A file whose last change is younger may change again within the same tick of its clock. */
const TICK_MS = 20;

export class CachePolicy {
	readonly mode: CacheMode;
	/** How long names and attributes are valid. */
	readonly seconds: number;

	constructor(mode: CacheMode) {
		this.mode = mode;
		this.seconds = SECONDS[mode];
	}

	/** The flags of FUSE_INIT for the mode. */
	get initFlags(): number {
		return this.mode === "none"
			? 0
			: this.mode === "auto"
				? FUSE_AUTO_INVAL_DATA | FUSE_CACHE_SYMLINKS
				: FUSE_CACHE_SYMLINKS;
	}

	/** Whether the guest may keep that a name is missing. */
	get keepsMissing(): boolean {
		return this.mode === "always";
	}

	/** Whether opening a file needs its attributes. */
	get looksAtOpen(): boolean {
		return this.mode === "auto";
	}

	/** fuse_open_out.open_flags of a file that was `attributes` when it was opened. */
	openFile(entry: NodeEntry, attributes: Attributes | undefined): number {
		if (this.mode === "none") return FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
		if (this.mode === "always") return FOPEN_KEEP_CACHE;
		const before = entry.seen;
		entry.seen = attributes === undefined ? "" : identify(attributes);
		return before !== "" && before === entry.seen ? FOPEN_KEEP_CACHE : 0;
	}

	/** fuse_open_out.open_flags of a directory. */
	openDirectory(): number {
		return this.mode === "always" ? FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE : 0;
	}
}

/** A value that changes with the data; undefined when the last change is too recent. */
function identify({ size = 0, mtime = 0, mtimensec = 0, ctime = 0, ctimensec = 0 }: Attributes): string {
	if (Date.now() - (ctime * 1000 + ctimensec / 1e6) < TICK_MS) return "";
	return `${size} ${mtime} ${mtimensec} ${ctime} ${ctimensec}`;
}

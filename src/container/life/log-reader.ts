/*
 * Reads a container's log (log-file.ts): all of it, its last lines, what is newer than a time, and what is still to come.
 * A log that rotates is several files, the older ones with a number. Each is open before it is read, so it is read to its
 * end whatever name it has by then.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoName } from "../../base/errors.ts";
import type { LogEntry } from "./log-file.ts";

export interface LogSelection {
	/** Only so many of the last lines of output. */
	tail?: number | undefined;
	/** Only what is not older, in ms since 1970. */
	sinceMs?: number | undefined;
	/** Only what is not newer, in ms since 1970. */
	untilMs?: number | undefined;
	/** Asked when the end of the file is reached: whether more may come. */
	goesOn?: (() => boolean) | undefined;
	signal?: AbortSignal | undefined;
}

/** One file of the log. */
interface Part {
	file: FileHandle;
	inode: number;
	/** Where the next read begins. */
	position: number;
}

const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 50;

/** The entries of a log, in order. A file that is not there is an empty one; a damaged line is passed over. */
export async function* readLog(path: string, selection: LogSelection = {}): AsyncGenerator<LogEntry> {
	const { sinceMs, untilMs, tail, goesOn, signal } = selection;
	const parts = await openNewer(path);
	try {
		if (tail !== undefined) await skipToTail(parts, tail);
		let rest = Buffer.alloc(0);
		while (parts[0] !== undefined) {
			const [part] = parts;
			/* Asked before the read: what was written before the end, or before the next file, is then read. */
			const mayGrow = goesOn?.() === true;
			const isLast = parts.length === 1 && !(goesOn !== undefined && (await isReplaced(path, part)));
			const { bytesRead, buffer } = await part.file.read(
				Buffer.allocUnsafe(CHUNK_BYTES),
				0,
				CHUNK_BYTES,
				part.position,
			);
			part.position += bytesRead;
			rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
			for (let newline = rest.indexOf(0x0a); newline >= 0; newline = rest.indexOf(0x0a)) {
				const entry = parseEntry(rest.toString("utf8", 0, newline));
				rest = rest.subarray(newline + 1);
				if (entry === undefined) continue;
				const timeMs = Date.parse(entry.time);
				if (sinceMs !== undefined && timeMs < sinceMs) continue;
				if (untilMs !== undefined && timeMs > untilMs) return;
				yield entry;
			}
			if (bytesRead > 0) continue;
			if (!isLast && parts.length === 1) parts.push(...(await openNewer(path, part.inode)));
			if (parts.length > 1) {
				rest = Buffer.alloc(0);
				await parts.shift()!.file.close();
				continue;
			}
			if (!mayGrow || signal?.aborted) return;
			await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
		}
	} finally {
		for (const { file } of parts) await file.close();
	}
}

/** The files of the log that are newer than one of them, all when missing; the oldest first. */
async function openNewer(path: string, than?: number): Promise<Part[]> {
	const parts: Part[] = [];
	/* The newest first: one that is renamed meanwhile is met again, and none is missed. */
	for (let i = 0; ; i++) {
		const file = await openIfThere(i === 0 ? path : `${path}.${i}`);
		if (file === undefined && i > 0) break;
		if (file === undefined) continue;
		const { ino: inode } = await file.stat();
		const isKnown = parts.some((part) => part.inode === inode);
		if (inode === than || isKnown) await file.close();
		else parts.unshift({ file, inode, position: 0 });
		if (inode === than) break;
	}
	return parts;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
	try {
		return await open(path, "r");
	} catch (error) {
		if (errnoName(error) === "ENOENT") return undefined;
		throw error;
	}
}

/** Whether the log goes on in another file, so that nothing more comes to this one. */
async function isReplaced(path: string, { inode }: Part): Promise<boolean> {
	try {
		return (await stat(path)).ino !== inode;
	} catch {
		return false; /* it is about to be */
	}
}

function parseEntry(line: string): LogEntry | undefined {
	try {
		const entry = JSON.parse(line) as LogEntry;
		return typeof entry.log === "string" && typeof entry.time === "string" ? entry : undefined;
	} catch {
		return undefined;
	}
}

/** Has the last `count` lines of all files be what is read. */
async function skipToTail(parts: readonly Part[], count: number): Promise<void> {
	let missing = count;
	for (const part of [...parts].reverse()) {
		const { start, lines } = await startOfTail(part.file, missing);
		part.position = start;
		missing -= lines;
	}
}

/** Where the last `count` lines of a file begin, found from its end, and how many there are. */
async function startOfTail(file: FileHandle, count: number): Promise<{ start: number; lines: number }> {
	const { size } = await file.stat();
	if (count === 0 || size === 0) return { start: size, lines: 0 };
	/* The file begins one. */
	let lines = 0;
	for (let end = size; end > 0; ) {
		const start = Math.max(0, end - CHUNK_BYTES);
		const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(end - start), 0, end - start, start);
		for (let at = bytesRead - 1; at >= 0; at--) {
			/* The last byte ends the last line; it begins none. */
			if (buffer[at] !== 0x0a || start + at === size - 1) continue;
			if (++lines === count) return { start: start + at + 1, lines };
		}
		end = start;
	}
	return { start: 0, lines: lines + 1 };
}

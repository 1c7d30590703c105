/*
 * Reads a container's log (log-file.ts): all of it, its last lines, what is newer than a time, and what is still to come.
 */
import { type FileHandle, open } from "node:fs/promises";
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

const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 50;

/** The entries of a log, in order. A file that is not there is an empty one; a damaged line is passed over. */
export async function* readLog(path: string, selection: LogSelection = {}): AsyncGenerator<LogEntry> {
	const { sinceMs, untilMs, signal } = selection;
	let file: FileHandle;
	try {
		file = await open(path, "r");
	} catch (error) {
		if (errnoName(error) === "ENOENT") return;
		throw error;
	}
	try {
		let position = selection.tail === undefined ? 0 : await startOfTail(file, selection.tail);
		let rest = Buffer.alloc(0);
		for (;;) {
			/* Asked before the read: what was written before the end is then read. */
			const goesOn = selection.goesOn?.() === true;
			const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, position);
			position += bytesRead;
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
			if (!goesOn || signal?.aborted) return;
			await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
		}
	} finally {
		await file.close();
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

/** Where the last `count` lines of the file begin, found from its end. */
async function startOfTail(file: FileHandle, count: number): Promise<number> {
	const { size } = await file.stat();
	if (count === 0) return size;
	let found = 0;
	for (let end = size; end > 0; ) {
		const start = Math.max(0, end - CHUNK_BYTES);
		const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(end - start), 0, end - start, start);
		for (let at = bytesRead - 1; at >= 0; at--) {
			/* The last byte ends the last line; it begins none. */
			if (buffer[at] !== 0x0a || start + at === size - 1) continue;
			if (++found === count) return start + at + 1;
		}
		end = start;
	}
	return 0;
}

/*
 * A container's output as Docker's json-file driver keeps it: a line of JSON for each line of output, in the order in
 * which they came.
 *
 *     {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678000000Z"}
 *
 * A line of more than 16 KiB is several entries, of which only the last ends in a newline. When the file has grown to its
 * limit, it becomes FILE.1, that one FILE.2 and so on, and the oldest goes.
 */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { StringDecoder } from "node:string_decoder";
import { errnoName, explain } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import type { LogLimits } from "./log-limits.ts";

export type OutputStream = "stdout" | "stderr";

/** One line of the file. */
export interface LogEntry {
	log: string;
	stream: OutputStream;
	/** RFC 3339 with nanoseconds. */
	time: string;
}

/** Bytes of one entry, about. */
const ENTRY_CHARACTERS = 16 * 1024;

/** Writes the log. One writer at a time; `close` writes what is left of an unfinished line. */
export class LogFile {
	readonly #path: string;
	readonly #limits: LogLimits;
	#file: FileHandle;
	#bytes = 0;
	readonly #streams = { stdout: new Lines(), stderr: new Lines() };
	#failed = false;

	/** One write at a time: standard output and standard error may both rotate. */
	#turn: Promise<void> = Promise.resolve();

	private constructor(path: string, file: FileHandle, limits: LogLimits) {
		this.#path = path;
		this.#file = file;
		this.#limits = limits;
	}

	/** Opens the log for what is to come; what an earlier run has left stays before it. */
	static async open(path: string, limits: LogLimits = { maxFiles: 1 }): Promise<LogFile> {
		const file = await open(path, "a", 0o600);
		const log = new LogFile(path, file, limits);
		try {
			await log.#endTornLine();
			log.#bytes = (await file.stat()).size;
		} catch (error) {
			await file.close();
			throw error;
		}
		return log;
	}

	/** Resolves when it is written. A disk that is full loses output, and the container's log says so once. */
	async write(stream: OutputStream, bytes: Buffer): Promise<void> {
		await this.#append(stream, this.#streams[stream].push(bytes));
	}

	async close(): Promise<void> {
		for (const stream of ["stdout", "stderr"] as const) await this.#append(stream, this.#streams[stream].end());
		await this.#file.close();
	}

	async #append(stream: OutputStream, texts: string[]): Promise<void> {
		if (texts.length === 0) return;
		const time = new Date().toISOString().replace("Z", "000000Z");
		const lines = texts.map((log) => `${JSON.stringify({ log, stream, time } satisfies LogEntry)}\n`);
		this.#turn = this.#turn.then(() => this.#write(lines.join("")));
		await this.#turn;
	}

	async #write(lines: string): Promise<void> {
		try {
			if (this.#bytes >= (this.#limits.maxBytes ?? Number.POSITIVE_INFINITY)) await this.#rotate();
			await this.#file.appendFile(lines);
			this.#bytes += Buffer.byteLength(lines);
			this.#failed = false;
		} catch (error) {
			if (!this.#failed) log("warn", `Cannot write ${this.#path}, output is lost: ${explain(error)}`);
			this.#failed = true;
		}
	}

	/** Readers that have the old file open read it to its end. */
	async #rotate(): Promise<void> {
		const { maxFiles } = this.#limits;
		for (let i = maxFiles - 1; i > 0; i--) {
			await rename(i === 1 ? this.#path : `${this.#path}.${i - 1}`, `${this.#path}.${i}`).catch(ignoreMissing);
		}
		if (maxFiles === 1) await rm(this.#path, { force: true });
		const next = await open(this.#path, "a", 0o600);
		await this.#file.close();
		this.#file = next;
		this.#bytes = 0;
	}

	/** A writer that was killed, or whose disk was full, may have left half a line. */
	async #endTornLine(): Promise<void> {
		const { size } = await this.#file.stat();
		if (size === 0) return;
		const reader = await open(this.#path, "r");
		try {
			const { buffer } = await reader.read(Buffer.alloc(1), 0, 1, size - 1);
			if (buffer[0] !== 0x0a) await this.#file.appendFile("\n");
		} finally {
			await reader.close();
		}
	}
}

/** Not so many files are there yet. */
function ignoreMissing(error: unknown): void {
	if (errnoName(error) !== "ENOENT") throw error;
}

/** Cuts a stream of bytes into entries. */
class Lines {
	readonly #decoder = new StringDecoder("utf8");
	#rest = "";

	push(bytes: Buffer): string[] {
		this.#rest += this.#decoder.write(bytes);
		const entries: string[] = [];
		for (;;) {
			const newline = this.#rest.indexOf("\n");
			const length = newline >= 0 ? newline + 1 : this.#rest.length;
			if (newline < 0 && length < ENTRY_CHARACTERS) return entries;
			const taken = Math.min(length, ENTRY_CHARACTERS);
			entries.push(this.#rest.slice(0, taken));
			this.#rest = this.#rest.slice(taken);
		}
	}

	end(): string[] {
		const rest = this.#rest + this.#decoder.end();
		this.#rest = "";
		return rest === "" ? [] : [rest];
	}
}

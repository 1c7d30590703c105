/*
 * The file that a trace is written to. Writing never waits: what the disk has not taken is held, up to a limit, and
 * above it the file is full until there is room again. One write is under way at a time. When the process ends, what is
 * held is written at once; only SIGKILL loses it, at most FLUSH_MS old.
 */
import { closeSync, fstatSync, writeSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { HostError } from "../../base/errors.ts";
import { log } from "../../base/log.ts";

/** Bytes that may be held. */
const MAX_HELD_BYTES = 16 << 20;
/** So much is written at once. */
const CHUNK_BYTES = 256 << 10;
/** So long may less of it wait. */
const FLUSH_MS = 100;

/** The files that the end of the process has to complete. */
const opened = new Set<TraceOutput>();
const atExit = () => {
	for (const output of opened) output.flushAtExit();
};

export class TraceOutput {
	readonly path: string;
	readonly #handle: FileHandle;
	/** A file has positions; a pipe has none, and may block. */
	readonly #isFile: boolean;
	#text = "";
	#chunks: Uint8Array[] = [];
	#heldBytes = 0;
	#written = 0;
	#writing: Promise<void> | undefined;
	/** What that write has not reported yet. */
	#inFlight: Uint8Array | undefined;
	#timer: NodeJS.Timeout | undefined;
	#failed = false;

	/** @throws HostError ERR_TRACE_FILE when the file cannot be written */
	static async open(path: string): Promise<TraceOutput> {
		try {
			return new TraceOutput(path, await open(path, "w", 0o600));
		} catch (cause) {
			const message = `Cannot write the trace ${path}: ${(cause as Error).message}`;
			throw new HostError("ERR_TRACE_FILE", message, {
				cause,
				hint: "Give a file in a directory that you may write to",
			});
		}
	}

	private constructor(path: string, handle: FileHandle) {
		this.path = path;
		this.#handle = handle;
		this.#isFile = fstatSync(handle.fd).isFile();
		if (opened.size === 0) process.on("exit", atExit);
		opened.add(this);
	}

	/** No room: what is written now would have to wait for the disk. */
	get full(): boolean {
		return this.#heldBytes >= MAX_HELD_BYTES;
	}

	/** Adds text, or bytes, which are copied. */
	write(part: string | Uint8Array): void {
		if (this.#failed) return;
		if (typeof part === "string") {
			this.#text += part;
			/* Most of it is ASCII. */
			this.#heldBytes += part.length;
		} else {
			this.#endText();
			this.#chunks.push(part.slice());
			this.#heldBytes += part.length;
		}
		if (this.#heldBytes >= CHUNK_BYTES) this.#flush();
		else this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS).unref();
	}

	/** Resolves when all is written and the file is closed. A second call does nothing. */
	async close(): Promise<void> {
		if (!opened.delete(this)) return;
		if (opened.size === 0) process.off("exit", atExit);
		while (this.#writing !== undefined || this.#heldBytes > 0) {
			this.#flush();
			await this.#writing;
		}
		clearTimeout(this.#timer);
		await this.#handle.close();
	}

	/** At the process's end. A write that is under way writes the same bytes to the same place. */
	flushAtExit(): void {
		if (!this.#isFile || this.#failed) return;
		const rest = [...(this.#inFlight === undefined ? [] : [this.#inFlight]), this.#take()];
		try {
			for (const bytes of rest) this.#written += writeSync(this.#handle.fd, bytes, 0, bytes.length, this.#written);
			closeSync(this.#handle.fd);
		} catch {
			/* The process ends, and there is nobody to tell. */
		}
	}

	#endText(): void {
		if (this.#text !== "") this.#chunks.push(Buffer.from(this.#text));
		this.#text = "";
	}

	#take(): Uint8Array {
		this.#endText();
		const bytes = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
		this.#chunks = [];
		this.#heldBytes = 0;
		return bytes;
	}

	#flush(): void {
		if (this.#writing !== undefined || this.#heldBytes === 0) return;
		clearTimeout(this.#timer);
		this.#timer = undefined;
		const bytes = this.#take();
		this.#inFlight = bytes;
		this.#writing = this.#writeAll(bytes)
			.catch((error: Error) => this.#fail(error))
			.finally(() => {
				this.#inFlight = undefined;
				this.#writing = undefined;
				if (this.#heldBytes >= CHUNK_BYTES) this.#flush();
			});
	}

	async #writeAll(bytes: Uint8Array): Promise<void> {
		for (let at = 0; at < bytes.length; ) {
			const position = this.#isFile ? this.#written : null;
			const { bytesWritten } = await this.#handle.write(bytes, at, bytes.length - at, position);
			at += bytesWritten;
			this.#written += bytesWritten;
			this.#inFlight = bytes.subarray(at);
		}
	}

	/** The machine goes on without its trace. */
	#fail(error: Error): void {
		this.#failed = true;
		this.#take();
		log("warn", `the trace ${this.path} ends here: ${error.message}`);
	}
}

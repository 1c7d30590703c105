/*
 * Data of files, straight from and to the guest's memory by the host's asynchronous I/O (host/io-ring.ts): one system
 * call for all that a turn of the event loop asks for. When the host does only part of a request, the rest is queued
 * again: a short read is the end of the file.
 */
import { constants } from "node:os";
import type { Enter } from "../../base/enter.ts";
import { ErrnoError } from "../../base/errno-error.ts";
import { Segments } from "../../base/segments.ts";
import { IoRing } from "../../host/io-ring.ts";

const ENTRIES = 1024;
const { EINTR, EAGAIN } = constants.errno;

/** A transfer that is asked for: which, and the bytes. */
export interface Transfer {
	readonly fd: number;
	readonly offset: number;
	readonly segments: Segments;
}

export class FileData {
	readonly #ring: IoRing;
	/** By token: who waits for the result. */
	readonly #waiting = new Map<number, (result: number) => void>();
	#nextToken = 0;
	#staged = false;

	constructor(name: string, enter: Enter, forceThreads = false) {
		const options = { entries: ENTRIES, enter, name, forceThreads };
		this.#ring = new IoRing((token, result) => this.#complete(token, result), options);
	}

	/** How requests reach the host. */
	get engine(): "io_uring" | "threads" {
		return this.#ring.engine;
	}

	/** Fills the segments; fewer bytes only at the end of the file. */
	async read(transfer: Transfer): Promise<number> {
		return await this.#transfer(transfer, (token, at, part) => this.#ring.readv(token, transfer.fd, at, part));
	}

	/** Writes the segments; fewer bytes when the host takes no more, such as of a full disk. */
	async write(transfer: Transfer): Promise<number> {
		return await this.#transfer(transfer, (token, at, part) => this.#ring.writev(token, transfer.fd, at, part));
	}

	/** Resolves when nothing is in flight any more. */
	async close(): Promise<void> {
		await this.#ring.close();
		for (const done of [...this.#waiting.values()]) done(-constants.errno.EIO);
	}

	async #transfer(
		{ offset, segments }: Transfer,
		queue: (token: number, at: number, part: Segments) => void,
	): Promise<number> {
		let done = 0;
		let part = segments;
		while (done < segments.totalBytes) {
			if (done > 0) part = segments.slice(done, segments.totalBytes, new Segments());
			const result = await this.#once((token) => queue(token, offset + done, part));
			if (result === -EINTR || result === -EAGAIN) continue;
			if (result < 0 && done === 0) throw ErrnoError.of(-result);
			if (result <= 0) break;
			done += result;
		}
		return done;
	}

	#once(queue: (token: number) => void): Promise<number> {
		const token = this.#nextToken;
		/* Far more than may be in flight. */
		this.#nextToken = (token + 1) % 2 ** 31;
		return new Promise((resolve) => {
			this.#waiting.set(token, resolve);
			queue(token);
			this.#stage();
		});
	}

	/** Hands all that is queued in this turn to the host. */
	#stage(): void {
		if (this.#staged) return;
		this.#staged = true;
		queueMicrotask(() => {
			this.#staged = false;
			this.#ring.submit();
		});
	}

	#complete(token: number, result: number): void {
		const done = this.#waiting.get(token);
		this.#waiting.delete(token);
		done?.(result);
	}
}

/*
 * A disk on which requests fail, wait, are lost or give wrong data, as rules say (base/faults.ts). It stands between a
 * block device and its real disk. What goes wrong is decided when the request comes.
 */
import type { DeviceFaults, FaultEvents, Hit } from "../base/faults.ts";
import type { Segments } from "../base/segments.ts";
import type { BlockBackend, BlockResult } from "./contract.ts";

/** What can go wrong on a disk. A lost request is answered as done, and was not. */
export const DISK_FAULTS: FaultEvents = {
	read: ["io-error", "corrupt", "delay"],
	write: ["io-error", "lost", "delay"],
	flush: ["io-error", "lost", "delay"],
	discard: ["io-error", "delay"],
	zeroes: ["io-error", "delay"],
};

/** A disk with faults. It owns the real one. */
export class FaultyDisk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly: boolean;
	readonly blockBytes?: number;
	readonly physicalBlockBytes?: number;
	readonly quiesce?: () => Promise<void>;
	readonly #disk: BlockBackend;
	readonly #faults: DeviceFaults;
	#complete: (token: number, result: BlockResult) => void = () => undefined;
	/** Requests that the real disk has, or that wait here, by token: what is done at their completion. */
	readonly #hits = new Map<number, { readonly hit: Hit; readonly into?: Segments | undefined }>();
	/** Answers that the real disk is not asked for: given at `submit`. */
	#own: { readonly token: number; readonly result: BlockResult }[] = [];

	constructor(disk: BlockBackend, faults: DeviceFaults) {
		this.#disk = disk;
		this.#faults = faults;
		this.sizeBytes = disk.sizeBytes;
		this.readOnly = disk.readOnly;
		if (disk.blockBytes !== undefined) this.blockBytes = disk.blockBytes;
		if (disk.physicalBlockBytes !== undefined) this.physicalBlockBytes = disk.physicalBlockBytes;
		if (disk.quiesce !== undefined) this.quiesce = () => disk.quiesce!();
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
		this.#disk.start((token, result) => this.#completed(token, result));
	}

	read(token: number, offsetBytes: number, into: Segments): void {
		if (this.#passes("read", token, into)) this.#disk.read(token, offsetBytes, into);
	}

	write(token: number, offsetBytes: number, from: Segments): void {
		if (this.#passes("write", token)) this.#disk.write(token, offsetBytes, from);
	}

	flush(token: number): void {
		if (this.#passes("flush", token)) this.#disk.flush(token);
	}

	discard(token: number, offsetBytes: number, lengthBytes: number): void {
		if (this.#passes("discard", token)) this.#disk.discard(token, offsetBytes, lengthBytes);
	}

	writeZeroes(token: number, offsetBytes: number, lengthBytes: number, mayUnmap: boolean): void {
		if (this.#passes("zeroes", token)) this.#disk.writeZeroes(token, offsetBytes, lengthBytes, mayUnmap);
	}

	submit(): void {
		const own = this.#own;
		this.#own = [];
		for (const { token, result } of own) this.#completed(token, result);
		this.#disk.submit();
	}

	async close(): Promise<void> {
		this.#faults.close();
		await this.#disk.close();
	}

	/** Decides about a request. False: the real disk does not get it. */
	#passes(event: string, token: number, into?: Segments): boolean {
		const hit = this.#faults.meet(event);
		if (hit === undefined) return true;
		this.#hits.set(token, { hit, into });
		if (hit.effect !== "io-error" && hit.effect !== "lost") return true;
		this.#own.push({ token, result: hit.effect === "lost" ? "ok" : "io" });
		return false;
	}

	#completed(token: number, result: BlockResult): void {
		const request = this.#hits.get(token);
		if (request === undefined) {
			this.#complete(token, result);
			return;
		}
		this.#hits.delete(token);
		const { hit, into } = request;
		if (hit.effect === "corrupt" && into !== undefined && result === "ok") flipBit(into, hit.random);
		if (hit.delayMs === 0) this.#complete(token, result);
		else this.#faults.after(hit.delayMs, () => this.#complete(token, result));
	}
}

/** Flips one bit of the bytes from `from` on. Called twice with the same number, it changes nothing. */
export function flipBit(bytes: Segments, random: number, from = 0, end = bytes.totalBytes): void {
	if (end <= from) return;
	const at = from + (Math.floor(random / 8) % (end - from));
	const byte = new Uint8Array(1);
	bytes.copyTo(byte, at);
	byte[0]! ^= 1 << (random % 8);
	bytes.copyFrom(byte, at);
}

/*
 * A disk in a raw image file or a block device. Requests go to the host's asynchronous I/O (host/io-ring.ts), from and
 * to guest memory without a copy, with one system call per batch. Neighbours in a batch are one request (neighbours.ts). If the host does only a part of a request, the rest
 * is queued again. So a request succeeds as a whole or fails.
 */
import { closeSync } from "node:fs";
import { constants as os } from "node:os";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { logRateLimited } from "../base/log.ts";
import { type ByteSource, Segments } from "../base/segments.ts";
import { IoRing } from "../host/io-ring.ts";
import { errnoNameOf } from "../host/libc.ts";
import { GuestRam } from "../host/ram.ts";
import { BOUNCE_BYTES, BounceBuffers } from "./bounce-buffers.ts";
import type { BlockBackend, BlockResult } from "./contract.ts";
import { type DiskFile, type DiskFileOptions, openDiskFile } from "./disk-file.ts";
import { joinNeighbours, type Waiting } from "./neighbours.ts";

/** The most segments of one preadv or pwritev (IOV_MAX). */
const MAX_IOVECS = 1024;
/** The size of a buffer of zeroes, for hosts that cannot zero a range. */
const ZEROES_BYTES = 64 * 1024;

type Operation = "read" | "write" | "flush" | "discard" | "punch" | "zero";

/** The progress of a request. One per token, made at the token's first use. */
class Pending {
	operation: Operation = "flush";
	offsetBytes = 0;
	/** Bytes of the request, and bytes done so far. */
	lengthBytes = 0;
	doneBytes = 0;
	/** The device's segments, or zeroes. */
	segments: Segments | undefined;
	/** The rest of them, after the host did a part; or a part of `bounce`. */
	readonly rest = new Segments();
	/** The requests that it is made of, when there are several. */
	joined: readonly Waiting[] | undefined;
	/** The buffer that this part of the request goes through. */
	bounce: ByteSource | undefined;
	readonly zeroes = new Segments();
}

/** Options of a FileDisk. */
export interface FileDiskOptions extends DiskFileOptions {
	/** Never io_uring (for tests). */
	forceThreads?: boolean;
	/** The way into the machine that the disk belongs to. */
	enter?: Enter;
}

/** A disk in a raw image file or a block device of the host, locked while it is open. */
export class FileDisk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly: boolean;
	readonly blockBytes: number;
	readonly physicalBlockBytes: number;
	/** Of the file. */
	readonly path: string;
	readonly #fd: number;
	readonly #addressAlign: number;
	readonly #bounces = new BounceBuffers();
	readonly #ring: IoRing;
	readonly #pending: Pending[] = [];
	readonly #isContainer: boolean;
	/** Reads and writes since the last `submit`. */
	#batch: Waiting[] = [];
	#complete: (token: number, result: BlockResult) => void = () => undefined;
	/** The file system does not support this. */
	#noPunch = false;
	#noZero = false;
	/** Discards that are answered at `submit` but not done. */
	readonly #idle: number[] = [];
	#zeroes: GuestRam | undefined;
	#open = true;

	private constructor(path: string, file: DiskFile, options: FileDiskOptions) {
		const { readOnly = false, forceThreads = false, enter = enterDirectly } = options;
		this.path = path;
		this.#fd = file.fd;
		this.#isContainer = options.isContainer ?? false;
		this.#addressAlign = file.addressAlign;
		this.sizeBytes = file.sizeBytes;
		this.blockBytes = file.blockBytes;
		this.physicalBlockBytes = file.physicalBlockBytes;
		this.readOnly = readOnly;
		const ring = { forceThreads, enter, when: file.when, name: `disk ${path}` };
		this.#ring = new IoRing((token, result) => this.#answered(token, result), ring);
	}

	/**
	 * Opens and locks the disk: one writer, or any number of readers.
	 *
	 * @throws HostError ERR_DISK_OPEN, ERR_DISK_LOCKED, ERR_DISK_DIRECT; ImageError ERR_DISK_SIZE when there is not one
	 *   sector in it
	 */
	static open(path: string, options: FileDiskOptions = {}): FileDisk {
		const file = openDiskFile(path, options);
		try {
			return new FileDisk(path, file, options);
		} catch (error) {
			closeSync(file.fd);
			throw error;
		}
	}

	/** How requests reach the host. */
	get engine(): "io_uring" | "threads" {
		return this.#ring.engine;
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}

	read(token: number, offsetBytes: number, into: Segments): void {
		this.#batch.push({ token, operation: "read", offsetBytes, segments: into });
	}

	write(token: number, offsetBytes: number, from: Segments): void {
		this.#batch.push({ token, operation: "write", offsetBytes, segments: from });
	}

	flush(token: number): void {
		this.#begin(token, "flush", 0, 0);
		this.#ring.fsync(token, this.#fd);
	}

	discard(token: number, offsetBytes: number, lengthBytes: number): void {
		/* A discard is only a hint: a file system without holes ignores it. */
		this.#begin(token, "discard", offsetBytes, lengthBytes);
		if (this.#noPunch) this.#idle.push(token);
		else this.#ring.punchHole(token, this.#fd, offsetBytes, lengthBytes);
	}

	writeZeroes(token: number, offsetBytes: number, lengthBytes: number, mayUnmap: boolean): void {
		const operation = mayUnmap && !this.#noPunch ? "punch" : "zero";
		this.#zero(token, this.#begin(token, operation, offsetBytes, lengthBytes));
	}

	submit(): void {
		const batch = this.#batch;
		if (batch.length > 0) {
			this.#batch = [];
			/* A container's requests are from several mappings, which one request cannot have. */
			if (batch.length === 1 || this.#isContainer) for (const one of batch) this.#startRun([one], one.segments);
			else for (const { requests, segments } of joinNeighbours(batch)) this.#startRun(requests, segments);
		}
		this.#ring.submit();
		if (this.#idle.length === 0) return;
		for (const token of this.#idle.splice(0)) this.#complete(token, "ok");
	}

	poll(): void {
		this.#ring.poll();
	}

	async close(): Promise<void> {
		if (!this.#open) return;
		this.#open = false;
		await this.#ring.close();
		this.#zeroes?.close();
		this.#bounces.close();
		closeSync(this.#fd);
	}

	#startRun(requests: readonly Waiting[], segments: Segments): void {
		const { token, operation, offsetBytes } = requests[0]!;
		const pending = this.#begin(token, operation, offsetBytes, segments.totalBytes);
		pending.segments = segments;
		pending.joined = requests.length > 1 ? requests : undefined;
		this.#transfer(token, pending);
	}

	#begin(token: number, operation: Operation, offsetBytes: number, lengthBytes: number): Pending {
		this.#pending[token] ??= new Pending();
		const pending = this.#pending[token];
		pending.operation = operation;
		pending.offsetBytes = offsetBytes;
		pending.lengthBytes = lengthBytes;
		pending.doneBytes = 0;
		pending.segments = undefined;
		pending.joined = undefined;
		return pending;
	}

	/** Queues the bytes that are still to be read or written. */
	#transfer(token: number, pending: Pending): void {
		const { doneBytes, rest } = pending;
		let part = pending.segments!;
		if (doneBytes > 0 || part.count > MAX_IOVECS) {
			part.slice(doneBytes, part.totalBytes, rest);
			if (rest.count > MAX_IOVECS) {
				let bytes = 0;
				for (let i = 0; i < MAX_IOVECS; i++) bytes += rest.lengths[i]!;
				part.slice(doneBytes, bytes, rest);
			}
			part = rest;
		}
		if (!this.#isAligned(part)) {
			pending.bounce = this.#bounces.take(token);
			if (pending.bounce === undefined) return;
			part = this.#throughBounce(pending, pending.bounce);
		}
		const at = pending.offsetBytes + doneBytes;
		if (pending.operation === "read") this.#ring.readv(token, this.#fd, at, part);
		else this.#ring.writev(token, this.#fd, at, part);
	}

	/** Whether the host takes these addresses and lengths. */
	#isAligned({ count, hvas, lengths }: Segments): boolean {
		if (this.#addressAlign === 1) return true;
		for (let i = 0; i < count; i++) {
			if (hvas[i]! % this.#addressAlign !== 0 || lengths[i]! % this.blockBytes !== 0) return false;
		}
		return true;
	}

	/** The next part of a request in a buffer, with what is to be written. */
	#throughBounce({ operation, segments, doneBytes, lengthBytes, rest }: Pending, bounce: ByteSource): Segments {
		const bytes = Math.min(lengthBytes - doneBytes, BOUNCE_BYTES);
		if (operation === "write") segments!.copyTo(bounce.bytes.subarray(0, bytes), doneBytes);
		rest.clear();
		rest.add(bounce, 0, bytes);
		return rest;
	}

	/** Takes what was read out of the buffer, and gives that to the next request that waits. */
	#endBounce({ operation, segments, doneBytes }: Pending, bounce: ByteSource, result: number): void {
		if (operation === "read" && result > 0) segments!.copyFrom(bounce.bytes.subarray(0, result), doneBytes);
		const next = this.#bounces.give(bounce);
		if (next !== undefined) this.#again(() => this.#transfer(next, this.#pending[next]!));
	}

	/** Queues a write-zeroes: as a hole, or else as a zeroed range, or else as a write of zeroes. */
	#zero(token: number, pending: Pending): void {
		const { operation, offsetBytes, lengthBytes } = pending;
		if (operation === "punch" && !this.#noPunch) {
			this.#ring.punchHole(token, this.#fd, offsetBytes, lengthBytes);
			return;
		}
		pending.operation = "zero";
		if (!this.#noZero) {
			this.#ring.zeroRange(token, this.#fd, offsetBytes, lengthBytes);
			return;
		}
		this.#zeroes ??= GuestRam.map([{ gpa: 0, sizeBytes: ZEROES_BYTES }]);
		const { hva, buffer } = this.#zeroes.regions[0]!;
		const source = { hva, bytes: new Uint8Array(buffer) };
		pending.zeroes.clear();
		for (let done = 0; done < lengthBytes; done += ZEROES_BYTES) {
			pending.zeroes.add(source, 0, Math.min(ZEROES_BYTES, lengthBytes - done));
		}
		pending.operation = "write";
		pending.segments = pending.zeroes;
		this.#transfer(token, pending);
	}

	/** The host's answer: bytes done, or a negative errno. */
	#answered(token: number, result: number): void {
		const pending = this.#pending[token]!;
		const { bounce } = pending;
		pending.bounce = undefined;
		if (bounce !== undefined) this.#endBounce(pending, bounce, result);
		if (result < 0) {
			this.#failed(token, pending, -result);
			return;
		}
		const { operation } = pending;
		if (operation === "read" || operation === "write") {
			pending.doneBytes += result;
			if (pending.doneBytes < pending.lengthBytes) {
				/* No progress: somebody has truncated the file. */
				if (result === 0) this.#end(token, pending, "io");
				else this.#again(() => this.#transfer(token, pending));
				return;
			}
		}
		this.#end(token, pending, "ok");
	}

	#failed(token: number, pending: Pending, errno: number): void {
		const { operation } = pending;
		const { EINTR, EAGAIN, EOPNOTSUPP, ENOSYS, ENODEV } = os.errno;
		if (errno === EINTR || errno === EAGAIN) {
			this.#again(() => this.#repeat(token, pending));
			return;
		}
		const cannot = errno === EOPNOTSUPP || errno === ENOSYS || errno === ENODEV;
		if (cannot && (operation === "discard" || operation === "punch")) this.#noPunch = true;
		if (cannot && operation === "zero") this.#noZero = true;
		if (cannot && operation === "discard") {
			this.#end(token, pending, "ok");
			return;
		}
		if (cannot && (operation === "punch" || operation === "zero")) {
			this.#again(() => this.#zero(token, pending));
			return;
		}
		logRateLimited(`disk ${this.path}`, "warn", `${operation} has failed: ${errnoNameOf(errno)}`);
		this.#end(token, pending, "io");
	}

	/** Queues a whole request, or its rest. */
	#repeat(token: number, pending: Pending): void {
		const { operation, offsetBytes, lengthBytes } = pending;
		if (operation === "read" || operation === "write") this.#transfer(token, pending);
		else if (operation === "flush") this.#ring.fsync(token, this.#fd);
		else if (operation === "discard") this.#ring.punchHole(token, this.#fd, offsetBytes, lengthBytes);
		else this.#zero(token, pending);
	}

	#end(token: number, pending: Pending, result: BlockResult): void {
		const { joined } = pending;
		pending.segments = undefined;
		pending.joined = undefined;
		if (joined === undefined) this.#complete(token, result);
		else if (result === "ok") for (const request of joined) this.#complete(request.token, "ok");
		else {
			/* One by one, so that only those fail that the host cannot do. */
			this.#again(() => {
				for (const request of joined) this.#startRun([request], request.segments);
			});
		}
	}

	/** Continues a request outside any batch of the device. */
	#again(queue: () => void): void {
		queue();
		this.#ring.submit();
	}
}

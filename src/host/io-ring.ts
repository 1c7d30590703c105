/*
 * Asynchronous file I/O straight into guest memory. Requests are queued with a token. `submit` gives the batch to the
 * host in one call. `onComplete` returns each token with its result: bytes, 0, or a negative errno. A short read or
 * write is reported as it is. The host does the I/O by io_uring, or by libuv's threads where io_uring is not allowed.
 *
 *     backend -> read/write/... (queued) -> submit -> native ioengine -> onComplete(token, result)
 *
 * A request that the page cache can answer completes within `submit`, without a turn of the event loop: with `when`
 * "if-cached" by a system call of its own, else by io_uring. The others go to worker threads of the kernel. On Linux 6.18 a
 * request was seen to wait for ever because there was no worker. So when nothing has completed for a second, one more
 * request makes the kernel look for a worker again.
 *
 * Requests that the host refuses for now (EAGAIN, EBUSY) keep their order, and a timer submits them again. With any
 * other errno the request has failed, and `onComplete` says so.
 */
import { constants } from "node:os";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { log } from "../base/log.ts";
import type { Segments } from "../base/segments.ts";
import { getU64, setU64 } from "../base/u64.ts";
import {
	type Handle,
	IO_AT_ONCE,
	IO_FDATASYNC,
	IO_IF_CACHED,
	IO_IOVECS,
	IO_LATER,
	IO_PUNCH_HOLE,
	IO_READV,
	IO_WRITEV,
	IO_ZERO_RANGE,
	io_completion,
	io_submission,
	native,
} from "./native.ts";

const IOVEC_BYTES = 16;
/** How long nothing may complete before one more request is submitted. */
const STALL_MS = 1000;
/** The token of that request. */
const NUDGE = 0xffff_ffff;
/** When requests that the host refused are submitted again. */
const RETRY_MS = 1;
const CLOSE_MS = 30_000;
const { EAGAIN, EBUSY, EINTR } = constants.errno;

const WHEN = { later: IO_LATER, "if-cached": IO_IF_CACHED, "at-once": IO_AT_ONCE };

/** When reads and writes of a ring are done. */
export type When = keyof typeof WHEN;

export interface IoRingOptions {
	/** The most requests in flight, 1 to 4096; 1024 when missing. Further requests wait in order. */
	entries?: number;
	/** Never io_uring (for tests). */
	forceThreads?: boolean;
	/**
	 * When reads and writes are done: "later" by the host, "if-cached" also within `submit` when that does not wait for a
	 * disk, "at-once" within `submit`, for files in memory. "later" when missing.
	 */
	when?: When;
	/** The way into the machine that `onComplete` belongs to, on behalf of `name`. */
	enter?: Enter;
	name?: string;
	/** How long `close` waits for what is in flight, in ms; 30 s when missing. */
	closeMs?: number;
}

/** A request that waits: all entries were in use, or the host refused it. */
interface Waiting {
	op: number;
	token: number;
	fd: number;
	offset: number;
	length: number;
	hvas: number[];
	lengths: number[];
}

export class IoRing {
	readonly engine: "io_uring" | "threads";
	readonly #entries: number;
	readonly #io: Handle;
	readonly #submissions: DataView;
	readonly #iovecs: DataView;
	readonly #completions: DataView;
	readonly #enter: Enter;
	readonly #name: string;
	/** Calls onComplete with #token and #result. Made once, so that a completion allocates nothing. */
	readonly #tell: () => void;
	#token = 0;
	#result = 0;
	readonly #waiting: Waiting[] = [];
	#queued = 0;
	#iovecsUsed = 0;
	#inFlight = 0;
	#delivering = false;
	#open = true;
	/** Completions so far, and their number when the watchdog looked last. */
	#completed = 0;
	#seen = 0;
	#watchdog: NodeJS.Timeout | undefined;
	#nudged = false;
	/** The file of any request in flight. */
	#lastFd = -1;
	#failure: { cause: unknown } | undefined;
	#retry: NodeJS.Timeout | undefined;
	/** Tokens of failed requests with the errno, not yet reported. */
	readonly #refused: { token: number; result: number }[] = [];
	readonly #closeMs: number;
	#closed: Promise<void> | undefined;
	/** Called when nothing is in flight any more after `close`. */
	#onIdle: (() => void) | undefined;

	/** @throws Error with an errno as `code` when the host gives us neither io_uring nor threads */
	constructor(onComplete: (token: number, result: number) => void, options: IoRingOptions = {}) {
		this.#enter = options.enter ?? enterDirectly;
		this.#name = options.name ?? "I/O ring";
		this.#tell = () => onComplete(this.#token, this.#result);
		this.#entries = options.entries ?? 1024;
		this.#closeMs = options.closeMs ?? CLOSE_MS;
		const { forceThreads = false, when = "later" } = options;
		const made = native().ioCreate(this.#entries, forceThreads, WHEN[when], () => this.#deliver());
		this.#io = made.io;
		this.engine = made.engine;
		this.#submissions = new DataView(made.submissions);
		this.#iovecs = new DataView(made.iovecs);
		this.#completions = new DataView(made.completions);
	}

	/** Requests submitted and not completed. */
	get inFlight(): number {
		return this.#inFlight + this.#waiting.length;
	}

	/** preadv into host memory, at most 1024 segments. */
	readv(token: number, fd: number, offsetBytes: number, into: Segments): void {
		this.#queue(IO_READV, token, fd, offsetBytes, 0, into);
	}

	/** pwritev from host memory, at most 1024 segments. */
	writev(token: number, fd: number, offsetBytes: number, from: Segments): void {
		this.#queue(IO_WRITEV, token, fd, offsetBytes, 0, from);
	}

	/** fdatasync: covers completed requests, but not those in flight. */
	fsync(token: number, fd: number): void {
		this.#queue(IO_FDATASYNC, token, fd, 0, 0, undefined);
	}

	/** Deallocates a range; it reads as zeroes. */
	punchHole(token: number, fd: number, offsetBytes: number, lengthBytes: number): void {
		this.#queue(IO_PUNCH_HOLE, token, fd, offsetBytes, lengthBytes, undefined);
	}

	/** Zeroes a range, which stays allocated. */
	zeroRange(token: number, fd: number, offsetBytes: number, lengthBytes: number): void {
		this.#queue(IO_ZERO_RANGE, token, fd, offsetBytes, lengthBytes, undefined);
	}

	/**
	 * Ends the batch: all queued requests go to the host now. Those that it does at once complete before this returns.
	 */
	submit(): void {
		if (this.#queued === 0 || !this.#open) return;
		this.#send();
		this.#deliver();
		if (this.#inFlight > 0) this.#watch();
	}

	/** Reports what is done by now. Nobody needs to call it: the event loop does the same a little later. */
	poll(): void {
		if (this.#inFlight > 0) this.#deliver();
	}

	/**
	 * Ends all reports. Requests that were not submitted are dropped, reads are cancelled, and submitted writes are done.
	 * Resolves when nothing is in flight, or after `closeMs`. In the second case the memory that the rest may touch stays
	 * mapped until the rest has ended, even for ever. Later calls return the same promise.
	 */
	close(): Promise<void> {
		this.#closed ??= this.#end();
		return this.#closed;
	}

	async #end(): Promise<void> {
		this.#open = false;
		this.#waiting.length = 0;
		this.#refused.length = 0;
		this.#queued = 0;
		clearTimeout(this.#retry);
		if (this.#inFlight > 0) {
			native().ioCancelReads(this.#io);
			await this.#idle();
		}
		clearInterval(this.#watchdog);
		if (this.#inFlight > 0) {
			log("warn", `${this.#name}: ${this.#inFlight} requests do not end; the memory that they may touch is kept`);
		}
		native().ioDestroy(this.#io);
	}

	/** Resolves when nothing is in flight, or after #closeMs. */
	#idle(): Promise<void> {
		this.#nudge();
		const nudging = setInterval(() => this.#nudge(), STALL_MS);
		let timer: NodeJS.Timeout | undefined;
		return new Promise<void>((resolve) => {
			timer = setTimeout(resolve, this.#closeMs);
			this.#onIdle = resolve;
		}).finally(() => {
			clearTimeout(timer);
			clearInterval(nudging);
		});
	}

	/** Once a second, while requests are in flight, looks whether one has completed. */
	#watch(): void {
		if (this.#watchdog !== undefined || this.engine === "threads") return;
		this.#seen = this.#completed;
		const look = () => {
			if (this.#inFlight === 0) {
				clearInterval(this.#watchdog);
				this.#watchdog = undefined;
			} else if (this.#completed === this.#seen) {
				this.#nudge();
			}
			this.#seen = this.#completed;
		};
		this.#watchdog = setInterval(() => this.#enter(this.#name, look), STALL_MS);
		this.#watchdog.unref();
	}

	/** Submits a request that always needs a worker and changes nothing. */
	#nudge(): void {
		if (this.#nudged || this.engine === "threads" || this.#inFlight + this.#queued >= this.#entries) return;
		this.#nudged = true;
		this.#put(IO_FDATASYNC, NUDGE, this.#lastFd, 0, 0, [], [], 0);
		this.#send();
	}

	/** Gives the queued requests to the host. Those that it refuses wait or have failed. */
	#send(): void {
		const count = this.#queued;
		const result = native().ioSubmit(this.#io, count);
		const taken = Math.max(result, 0);
		this.#inFlight += taken;
		if (taken < count) this.#notTaken(taken, count, result);
		this.#queued = 0;
		this.#iovecsUsed = 0;
	}

	/** @param result of ioSubmit: a number of requests, when the host took some, or a negative errno */
	#notTaken(first: number, end: number, result: number): void {
		const later = result >= 0 || result === -EAGAIN || result === -EBUSY || result === -EINTR;
		const rest: Waiting[] = [];
		for (let i = first; i < end; i++) {
			const request = this.#unput(i);
			if (request.token === NUDGE) this.#nudged = false;
			else if (later) rest.push(request);
			else this.#refused.push({ token: request.token, result });
		}
		this.#waiting.unshift(...rest);
		if (rest.length > 0 && this.#open) {
			this.#retry ??= setTimeout(() => this.#enter(this.#name, this.#sendAgain), RETRY_MS);
		}
	}

	readonly #sendAgain = (): void => {
		this.#retry = undefined;
		this.#sendWaiting();
		this.#deliver();
	};

	/** What #put has written for the submission at `index`. */
	#unput(index: number): Waiting {
		const view = this.#submissions;
		const at = index * io_submission.sizeof;
		const start = view.getUint32(at + io_submission.iov_start, true);
		const count = view.getUint32(at + io_submission.iov_count, true);
		const parts = Array.from({ length: count }, (_, i) => (start + i) * IOVEC_BYTES);
		return {
			op: view.getUint32(at + io_submission.op, true),
			token: view.getUint32(at + io_submission.token, true),
			fd: view.getUint32(at + io_submission.fd, true),
			offset: getU64(view, at + io_submission.offset),
			length: getU64(view, at + io_submission.length),
			hvas: parts.map((part) => getU64(this.#iovecs, part)),
			lengths: parts.map((part) => getU64(this.#iovecs, part + 8)),
		};
	}

	#queue(op: number, token: number, fd: number, offset: number, length: number, list: Segments | undefined): void {
		if (!this.#open) return;
		if (this.#waiting.length > 0 || this.#inFlight + this.#queued >= this.#entries) {
			const hvas = list === undefined ? [] : list.hvas.slice(0, list.count);
			const lengths = list === undefined ? [] : list.lengths.slice(0, list.count);
			this.#waiting.push({ op, token, fd, offset, length, hvas, lengths });
			return;
		}
		this.#put(op, token, fd, offset, length, list?.hvas ?? [], list?.lengths ?? [], list?.count ?? 0);
	}

	#put(
		op: number,
		token: number,
		fd: number,
		offset: number,
		length: number,
		hvas: readonly number[],
		lengths: readonly number[],
		count: number,
	): void {
		/* Only a guest can want more than the whole table. The host answers EINVAL to more than 1024. */
		const segments = Math.min(count, 1025);
		if (this.#iovecsUsed + segments > IO_IOVECS) this.submit();
		const start = this.#iovecsUsed;
		for (let i = 0; i < segments; i++) {
			const at = (start + i) * IOVEC_BYTES;
			setU64(this.#iovecs, at, hvas[i]!);
			setU64(this.#iovecs, at + 8, lengths[i]!);
		}
		this.#iovecsUsed = start + segments;
		const at = this.#queued++ * io_submission.sizeof;
		this.#submissions.setUint32(at + io_submission.op, op, true);
		this.#submissions.setUint32(at + io_submission.token, token, true);
		this.#submissions.setUint32(at + io_submission.fd, fd, true);
		this.#submissions.setUint32(at + io_submission.iov_count, segments, true);
		this.#lastFd = fd;
		setU64(this.#submissions, at + io_submission.offset, offset);
		setU64(this.#submissions, at + io_submission.length, length);
		this.#submissions.setUint32(at + io_submission.iov_start, start, true);
	}

	/**
	 * Reports completions and submits requests that waited for them. An onComplete never calls it again. Each completion
	 * enters the machine by itself, so a receiver that throws does not keep the others from theirs.
	 */
	#deliver(): void {
		if (this.#delivering) return;
		this.#delivering = true;
		try {
			for (let count = this.#reap(); count > 0 || this.#refused.length > 0; count = this.#reap()) {
				this.#inFlight -= count;
				this.#completed += count;
				for (let i = 0; i < count && this.#open; i++) {
					const at = i * io_completion.sizeof;
					const token = this.#completions.getUint32(at + io_completion.token, true);
					if (token === NUDGE) this.#nudged = false;
					else this.#complete(token, this.#completions.getInt32(at + io_completion.result, true));
				}
				while (this.#refused.length > 0) {
					const { token, result } = this.#refused.shift()!;
					this.#complete(token, result);
				}
				this.#sendWaiting();
			}
		} finally {
			this.#delivering = false;
		}
		if (!this.#open && this.#inFlight === 0) this.#onIdle?.();
		if (this.#failure === undefined) return;
		const { cause } = this.#failure;
		this.#failure = undefined;
		throw cause;
	}

	/** An error of a receiver is thrown after all completions are reported. */
	#complete(token: number, result: number): void {
		this.#token = token;
		this.#result = result;
		try {
			this.#enter(this.#name, this.#tell);
		} catch (cause) {
			this.#failure ??= { cause };
		}
	}

	#reap(): number {
		return this.#inFlight > 0 ? native().ioReap(this.#io) : 0;
	}

	/** Not while the host refuses requests: #retry submits them. */
	#sendWaiting(): void {
		const waiting = this.#waiting;
		while (waiting.length > 0 && this.#retry === undefined && this.#inFlight + this.#queued < this.#entries) {
			const w = waiting.shift()!;
			this.#put(w.op, w.token, w.fd, w.offset, w.length, w.hvas, w.lengths, w.hvas.length);
		}
		this.submit();
	}
}

/*
 * Asynchronous file I/O straight into guest memory: requests are queued with a token, `submit` hands the batch to the
 * host in one call, and `onComplete` brings each token back with its result (bytes, 0, or a negative errno; a short
 * read or write is reported as it is). io_uring where the host allows it, libuv's threads elsewhere.
 *
 *     backend -> read/write/... (queued) -> submit -> native ioengine -> onComplete(token, result)
 *
 * A request that the page cache can answer completes from inside `submit`, without a turn of the event loop. Others go
 * to worker threads of the kernel; when none of them has come back for a second, one more request makes the kernel look
 * for a worker again: on Linux 6.18 a request was seen to wait for ever with no worker there.
 */
import { type Enter, enterDirectly } from "../base/enter.ts";
import type { Segments } from "../base/segments.ts";
import {
	type Handle,
	IO_FDATASYNC,
	IO_IOVECS,
	IO_PUNCH_HOLE,
	IO_READV,
	IO_WRITEV,
	IO_ZERO_RANGE,
	io_completion,
	io_submission,
	native,
} from "./native.ts";

const IOVEC_BYTES = 16;
/** How long nothing may complete before the kernel is asked again. */
const STALL_MS = 1000;
/** The token of the request that does so. */
const NUDGE = 0xffff_ffff;

export interface IoRingOptions {
	/** Requests in flight at most, 1 to 4096; 1024 when missing. What is queued beyond waits in order. */
	entries?: number;
	/** Never io_uring (for tests). */
	forceThreads?: boolean;
	/** The way into the machine that `onComplete` belongs to, on behalf of `name`. */
	enter?: Enter;
	name?: string;
}

/** A request that found all entries taken. */
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
	/** Tells of the completion in #token and #result. Made once: a completion allocates nothing. */
	readonly #tell: () => void;
	#token = 0;
	#result = 0;
	readonly #waiting: Waiting[] = [];
	#queued = 0;
	#iovecsUsed = 0;
	#inFlight = 0;
	#delivering = false;
	#open = true;
	/** Completions so far, and how many there were when the watchdog looked last. */
	#completed = 0;
	#seen = 0;
	#watchdog: NodeJS.Timeout | undefined;
	#nudged = false;
	/** Any file that requests are in flight for. */
	#lastFd = -1;

	/** @throws Error when the host has neither io_uring nor threads for us */
	constructor(onComplete: (token: number, result: number) => void, options: IoRingOptions = {}) {
		this.#enter = options.enter ?? enterDirectly;
		this.#name = options.name ?? "I/O ring";
		this.#tell = () => onComplete(this.#token, this.#result);
		this.#entries = options.entries ?? 1024;
		const made = native().ioCreate(this.#entries, options.forceThreads ?? false, () => this.#deliver());
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

	/** fdatasync: covers what completed before, not what is in flight. */
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

	/** Ends the batch: everything queued goes to the host now. What the host does at once completes before it returns. */
	submit(): void {
		if (this.#queued === 0 || !this.#open) return;
		this.#send();
		this.#deliver();
		if (this.#inFlight > 0) this.#watch();
	}

	/** Waits until nothing touches guest memory any more; completions not yet told are dropped. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		this.#waiting.length = 0;
		this.#queued = 0;
		clearInterval(this.#watchdog);
		if (this.#inFlight > 0) this.#nudge();
		native().ioDestroy(this.#io);
	}

	/** Looks once a second, while anything is in flight, whether anything has completed. */
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

	/** Hands what is queued to the host. */
	#send(): void {
		const count = this.#queued;
		this.#queued = 0;
		this.#iovecsUsed = 0;
		this.#inFlight += count;
		native().ioSubmit(this.#io, count);
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
		/* More than the whole table can only be a guest's doing: the host answers EINVAL to more than 1024. */
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
	 * Tells what is finished, and sends off what waited for it. Not again from inside an onComplete. Each completion
	 * enters on its own: one whose receiver throws keeps none from the others.
	 */
	#deliver(): void {
		if (this.#delivering) return;
		this.#delivering = true;
		let failure: { cause: unknown } | undefined;
		try {
			for (let count = this.#reap(); count > 0; count = this.#reap()) {
				this.#inFlight -= count;
				this.#completed += count;
				for (let i = 0; i < count && this.#open; i++) {
					const at = i * io_completion.sizeof;
					const token = this.#completions.getUint32(at + io_completion.token, true);
					if (token === NUDGE) {
						this.#nudged = false;
						continue;
					}
					this.#token = token;
					this.#result = this.#completions.getInt32(at + io_completion.result, true);
					try {
						this.#enter(this.#name, this.#tell);
					} catch (cause) {
						failure ??= { cause };
					}
				}
				this.#sendWaiting();
			}
		} finally {
			this.#delivering = false;
		}
		if (failure !== undefined) throw failure.cause;
	}

	#reap(): number {
		return this.#open ? native().ioReap(this.#io) : 0;
	}

	#sendWaiting(): void {
		if (!this.#open || this.#waiting.length === 0) return;
		while (this.#waiting.length > 0 && this.#inFlight + this.#queued < this.#entries) {
			const w = this.#waiting.shift()!;
			this.#put(w.op, w.token, w.fd, w.offset, w.length, w.hvas, w.lengths, w.hvas.length);
		}
		this.submit();
	}
}

function setU64(view: DataView, at: number, value: number): void {
	view.setUint32(at, value % 0x1_0000_0000, true);
	view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/*
 * The block device (virtio 1.2 §5.2): a disk behind one or several queues.
 *
 *     chain   readable: type u32, reserved u32, sector u64, data to write | writable: data read, status u8
 *
 * Headers may be split over descriptors in any way. The status is the last writable byte. Requests go to the backend
 * with a token made of queue and head index, and one `submit` per batch. They complete in any order. Completions are
 * collected and published once per batch.
 *
 * Several queues (VIRTIO_BLK_F_MQ) spare the guest a lock: each of its vCPUs has a queue of its own. Here they are served
 * one after the other.
 *
 * Reset with requests in flight: the backend may use their buffers until it has answered, so the reset is complete only
 * then. These answers change no ring and no status byte.
 */
import type { BlockBackend, BlockResult } from "../backends/contract.ts";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { UsageError } from "../base/errors.ts";
import { logRateLimited } from "../base/log.ts";
import type { Observers } from "../base/observer.ts";
import { type SavedState, StateReader } from "../base/state.ts";
import {
	BlockRequest,
	blockConfig,
	MAX_DATA_BYTES,
	REQUEST_HEADER_BYTES,
	SECTOR_BYTES,
	setCapacity,
	VIRTIO_BLK_F_BLK_SIZE,
	VIRTIO_BLK_F_DISCARD,
	VIRTIO_BLK_F_FLUSH,
	VIRTIO_BLK_F_MQ,
	VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_SEG_MAX,
	VIRTIO_BLK_F_SIZE_MAX,
	VIRTIO_BLK_F_TOPOLOGY,
	VIRTIO_BLK_F_WRITE_ZEROES,
	VIRTIO_BLK_ID_BYTES,
	VIRTIO_BLK_S_IOERR,
	VIRTIO_BLK_S_OK,
	VIRTIO_BLK_S_UNSUPP,
	VIRTIO_BLK_T_DISCARD,
	VIRTIO_BLK_T_FLUSH,
	VIRTIO_BLK_T_GET_ID,
	VIRTIO_BLK_T_IN,
	VIRTIO_BLK_T_OUT,
	VIRTIO_BLK_T_WRITE_ZEROES,
} from "./block-request.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const VIRTIO_ID_BLOCK = 2;

/** The names of a block device, and its queues. */
export interface BlockDeviceOptions {
	/** For logs and traces; "virtio-blk0". */
	name?: string;
	/** What VIRTIO_BLK_T_GET_ID answers, cut at 20 bytes; the name unless given. */
	id?: string;
	/** Largest queue size: a power of two up to 1024. */
	queueSize?: number;
	/** How many queues, 1 to MAX_BLOCK_QUEUES; 1 when missing. */
	queues?: number;
}

/** The most queues of a block device, as many as a machine has vCPUs. */
export const MAX_BLOCK_QUEUES = 32;

/** The block device (virtio 1.2 §5.2): a disk behind one or several queues. It owns its backend. */
export class BlockDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_BLOCK;
	readonly features: bigint;
	readonly queueSizes: readonly number[];
	readonly config: Uint8Array;
	#backend: BlockBackend;
	/** The next backend. It replaces the current one when no request is in flight, and none begins meanwhile. */
	#next: { backend: BlockBackend; done: () => void } | undefined;
	readonly #id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
	#capacitySectors = 0;
	/** What the driver takes for a block. A later backend may have smaller ones. */
	#blockBytes: number;
	readonly #queueSize: number;
	/** One per head index of each queue, made when the driver enables the queue. By token. */
	readonly #requests: BlockRequest[] = [];
	/** Requests that the backend has not answered, those from before a reset among them. */
	#inFlight = 0;
	#queues: readonly (Virtqueue | undefined)[] = [];
	#enter: Enter = enterDirectly;
	#observers: Observers | undefined;
	readonly #later = () => {
		for (let index = 0; index < this.#queues.length; index++) this.#take(index);
		this.#publish();
	};
	#needsReset: Activation["needsReset"] | undefined;
	#configChanged: Activation["configChanged"] | undefined;
	#features = 0n;
	#closed = false;
	/** The backend has queued requests since its last `submit`. */
	#queued = false;
	/** Who waits in `quiesce`. */
	#onIdle: (() => void) | undefined;
	/** `#publish` will run: at the end of `notify`, or in a microtask. */
	#staged = false;

	/** @param backend the disk, closed with the device */
	constructor(backend: BlockBackend, options: BlockDeviceOptions = {}) {
		const { name = "virtio-blk0", id = name, queueSize = 256, queues = 1 } = options;
		this.name = name;
		this.#backend = backend;
		this.#queueSize = queueSize;
		this.queueSizes = new Array<number>(queues).fill(queueSize);
		this.features = VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX;
		this.features |= VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_FLUSH;
		if (backend.readOnly) this.features |= VIRTIO_BLK_F_RO;
		else this.features |= VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
		if (queues > 1) this.features |= VIRTIO_BLK_F_MQ;
		/* The two descriptors besides the data are the header and the status. */
		const { blockBytes = SECTOR_BYTES, physicalBlockBytes = Math.max(blockBytes, 4096) } = backend;
		this.config = blockConfig(Math.max(1, queueSize - 2), { queues, blockBytes, physicalBlockBytes });
		this.#blockBytes = blockBytes;
		new TextEncoder().encodeInto(id, this.#id);
		this.#connect(backend);
	}

	/** The backend that requests go to. */
	get backend(): BlockBackend {
		return this.#backend;
	}

	/**
	 * Replaces the disk, as a changed medium. The old backend answers requests in flight, the new one later requests, and
	 * the driver is told the new capacity. The device then owns the new backend. Resolves when the old one is closed.
	 *
	 * @throws UsageError ERR_DISK_REPLACE for a read-only backend of a writable device (the driver reads that only at its
	 *   start) or one with larger blocks, during another replacement, or after the end; then the caller keeps the backend
	 */
	async replaceBackend(backend: BlockBackend): Promise<void> {
		if (this.#closed) throw refusal(this.name, "the machine has ended");
		if (this.#next !== undefined) throw refusal(this.name, "another replacement is under way");
		if (backend.readOnly && !this.#readOnly) throw refusal(this.name, "the new one is read-only, the old one is not");
		if ((backend.blockBytes ?? SECTOR_BYTES) > this.#blockBytes)
			throw refusal(this.name, "the new one has larger blocks");
		const old = this.#backend;
		await new Promise<void>((done) => {
			this.#next = { backend, done };
			this.#replace();
		});
		await old.close();
	}

	activate({ queues, features, needsReset, configChanged, enter, observers }: Activation): void {
		this.#enter = enter;
		this.#observers = observers;
		this.#queues = queues;
		for (const [index, queue] of queues.entries()) {
			const first = index * this.#queueSize;
			for (let head = 0; head < (queue?.size ?? 0); head++)
				this.#requests[first + head] ??= new BlockRequest(first + head);
		}
		this.#features = features;
		this.#needsReset = needsReset;
		this.#configChanged = configChanged;
	}

	notify(index: number): void {
		this.#staged = true;
		this.#take(index);
		this.#publish();
	}

	collect(): void {
		if (this.#inFlight === 0 || this.#next !== undefined) return; /* the next disk has more to do than to answer */
		this.#staged = true;
		this.#backend.poll?.();
		this.#publish();
	}

	/** Complete once the backend has answered all requests. */
	reset(): Promise<void> | undefined {
		this.#queues = [];
		this.#needsReset = undefined;
		this.#configChanged = undefined;
		if (this.#inFlight === 0) return undefined;
		/* Of a queue that the driver did not enable there are none. */
		for (const request of this.#requests) if (request?.chain !== undefined) request.stale = true;
		return this.#idle();
	}

	/** Waits for all answers of the backend, also to requests from before a reset, and for its files to be complete. */
	async quiesce(): Promise<void> {
		await this.#idle();
		await this.#backend.quiesce?.();
	}

	async #idle(): Promise<void> {
		while (this.#inFlight > 0) {
			await new Promise<void>((resolve) => {
				const others = this.#onIdle;
				this.#onIdle = () => {
					others?.();
					resolve();
				};
			});
		}
	}

	/** The properties that the driver relies on. The backend has the data, the queue its position. */
	save(): SavedState {
		/* Missing where it is 512, as in states of before. */
		const blocks = this.#blockBytes === SECTOR_BYTES ? {} : { blockBytes: this.#blockBytes };
		return { version: 1, capacitySectors: this.#capacitySectors, readOnly: this.#readOnly, ...blocks };
	}

	/** The disk may have grown. @throws SnapshotError ERR_STATE_MISMATCH when it is smaller, or read-only and was not */
	restore(state: unknown, activation: Activation | undefined): void {
		const reader = new StateReader(this.name, state).version(1);
		const capacity = reader.integer("capacitySectors", 0, Number.MAX_SAFE_INTEGER);
		const readOnly = reader.boolean("readOnly");
		if (capacity > this.#capacitySectors) {
			throw reader.mismatch(`its disk had ${capacity} sectors, the new one has ${this.#capacitySectors}`);
		}
		if (this.#readOnly && !readOnly) throw reader.mismatch("its disk was writable, the new one is read-only");
		const blockBytes = reader.has("blockBytes") ? reader.integer("blockBytes", SECTOR_BYTES, 4096) : SECTOR_BYTES;
		if (blockBytes < this.#blockBytes)
			throw reader.mismatch(`its disk had blocks of ${blockBytes} bytes, the new one has ${this.#blockBytes}`);
		if (activation !== undefined) this.activate(activation);
	}

	async close(): Promise<void> {
		this.#closed = true;
		void this.reset();
		const next = this.#next;
		this.#next = undefined;
		await this.#backend.close();
		await next?.backend.close();
		next?.done();
	}

	get #readOnly(): boolean {
		return (this.features & VIRTIO_BLK_F_RO) !== 0n;
	}

	/** A driver that cannot flush relies on every change being stable once it is answered (§5.2.6.2). */
	get #writesThrough(): boolean {
		return (this.#features & VIRTIO_BLK_F_FLUSH) === 0n;
	}

	/** Requests go to `backend` from now on. */
	#connect(backend: BlockBackend): void {
		this.#backend = backend;
		this.#capacitySectors = Math.floor(backend.sizeBytes / SECTOR_BYTES);
		setCapacity(this.config, this.#capacitySectors);
		backend.start((token, result) => {
			/* Ignore late answers of a backend that was replaced. */
			if (this.#backend === backend) this.#complete(token, result);
		});
	}

	/** Puts the next backend in place if nothing is in flight at the present one. */
	#replace(): void {
		const next = this.#next;
		if (next === undefined || this.#inFlight > 0) return;
		this.#next = undefined;
		this.#connect(next.backend);
		this.#configChanged?.();
		this.#stage();
		next.done();
	}

	/** Takes the chains of a queue, unless the backend is about to be replaced. */
	#take(index: number): void {
		const queue = this.#queues[index];
		if (queue === undefined || this.#next !== undefined) return;
		const first = index * this.#queueSize;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			this.#begin(chain, queue, this.#requests[first + chain.head]!);
		}
	}

	/** Reads the header of a new chain and starts what it asks for, or answers at once. */
	#begin(chain: Chain, queue: Virtqueue, request: BlockRequest): void {
		if (chain.writable.totalBytes === 0) {
			this.#needsReset?.(`the request at head ${chain.head} has no room for a status`);
			return;
		}
		request.begin(chain, queue);
		this.#inFlight++;
		const status = this.#start(request);
		if (status === undefined) this.#queued = true;
		else this.#answer(request, status, request.written);
	}

	/** Gives a request to the backend; undefined when it will answer, or the status when there is nothing to wait for. */
	#start(request: BlockRequest): number | undefined {
		const { chain, data, token } = request;
		const { readable, writable } = chain!;
		if (!request.readHeader()) return this.#refuse(`a request of ${readable.totalBytes} bytes has no header`);
		switch (request.type) {
			case VIRTIO_BLK_T_IN: {
				writable.slice(0, writable.totalBytes - 1, data);
				request.written = data.totalBytes;
				if (data.totalBytes > MAX_DATA_BYTES) return this.#refuse(`a read of ${data.totalBytes} bytes`);
				if (!this.#inside(request.sector, data.totalBytes)) return this.#refuse("a read beyond the end");
				if (data.totalBytes === 0) return VIRTIO_BLK_S_OK;
				this.#backend.read(token, request.sector * SECTOR_BYTES, data);
				return undefined;
			}
			case VIRTIO_BLK_T_OUT: {
				readable.slice(REQUEST_HEADER_BYTES, readable.totalBytes, data);
				if (this.#readOnly) return this.#refuse("a write to a read-only disk");
				if (data.totalBytes > MAX_DATA_BYTES) return this.#refuse(`a write of ${data.totalBytes} bytes`);
				if (!this.#inside(request.sector, data.totalBytes)) return this.#refuse("a write beyond the end");
				if (data.totalBytes === 0) return VIRTIO_BLK_S_OK;
				request.flushAfter = this.#writesThrough;
				this.#backend.write(token, request.sector * SECTOR_BYTES, data);
				return undefined;
			}
			case VIRTIO_BLK_T_FLUSH:
				this.#backend.flush(token);
				return undefined;
			case VIRTIO_BLK_T_GET_ID:
				writable.slice(0, Math.min(VIRTIO_BLK_ID_BYTES, writable.totalBytes - 1), data);
				request.written = data.copyFrom(this.#id);
				return VIRTIO_BLK_S_OK;
			case VIRTIO_BLK_T_DISCARD:
			case VIRTIO_BLK_T_WRITE_ZEROES: {
				const feature = request.type === VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
				if ((this.#features & feature) === 0n) return VIRTIO_BLK_S_UNSUPP;
				const fault = request.readRanges((sector, bytes) => this.#inside(sector, bytes));
				if (fault === "unsupported") return VIRTIO_BLK_S_UNSUPP;
				if (fault !== undefined) return this.#refuse(fault);
				request.flushAfter = this.#writesThrough;
				return this.#nextRange(request) ? undefined : VIRTIO_BLK_S_OK;
			}
			default:
				return VIRTIO_BLK_S_UNSUPP;
		}
	}

	/** Whether [sector, sector + length) is whole blocks of the disk. Sectors above 2^53 are inexact but far outside. */
	#inside(sector: number, lengthBytes: number): boolean {
		if ((sector * SECTOR_BYTES) % this.#blockBytes !== 0 || lengthBytes % this.#blockBytes !== 0) return false;
		const sectors = lengthBytes / SECTOR_BYTES;
		return sector <= this.#capacitySectors && sectors <= this.#capacitySectors - sector;
	}

	/** Starts the next range of a discard or write-zeroes request; false when none is left. */
	#nextRange(request: BlockRequest): boolean {
		while (request.rangesDone < request.rangeCount) {
			const i = request.rangesDone++;
			const offset = request.rangeStarts[i]! * SECTOR_BYTES;
			const length = request.rangeSectors[i]! * SECTOR_BYTES;
			if (length === 0) continue;
			if (request.type === VIRTIO_BLK_T_DISCARD) this.#backend.discard(request.token, offset, length);
			else this.#backend.writeZeroes(request.token, offset, length, request.rangeFlags[i]! !== 0);
			return true;
		}
		return false;
	}

	/** The backend's answer, to a request in flight or to one from before a reset. */
	#complete(token: number, result: BlockResult): void {
		const request = this.#requests[token];
		if (request?.chain === undefined) return;
		this.#observers?.observer?.complete?.(this.name, token, result);
		if (request.stale) {
			this.#end(request);
			this.#settled();
			return;
		}
		if (result === "ok" && this.#continue(request)) this.#queued = true;
		else this.#answer(request, STATUS[result], result === "ok" ? request.written : 0);
		this.#stage();
		this.#settled();
	}

	/** A request has ended. If it was the last one, `replaceBackend` and `quiesce` go on. */
	#settled(): void {
		this.#replace();
		const onIdle = this.#onIdle;
		if (onIdle === undefined || this.#inFlight > 0) return;
		this.#onIdle = undefined;
		onIdle();
	}

	/** Starts the rest of a request that has succeeded so far; false when nothing is left. */
	#continue(request: BlockRequest): boolean {
		if (this.#nextRange(request)) return true;
		if (!request.flushAfter) return false;
		request.flushAfter = false;
		this.#backend.flush(request.token);
		return true;
	}

	/** Writes the status and puts the chain on the used ring; `#publish` comes later. */
	#answer(request: BlockRequest, status: number, dataWritten: number): void {
		const { chain, queue } = request;
		const dataBytes = chain!.writable.totalBytes - 1;
		STATUS_BYTE[0] = status;
		chain!.writable.copyFrom(STATUS_BYTE, dataBytes);
		const whole = status === VIRTIO_BLK_S_OK ? dataWritten === dataBytes : dataBytes === 0;
		/* `len` counts from the first writable byte on without gaps (§2.7.8.2), so the status counts after whole data. */
		const written = whole ? dataBytes + 1 : status === VIRTIO_BLK_S_OK ? dataWritten : 0;
		this.#end(request);
		queue!.push(chain!, written);
	}

	#end(request: BlockRequest): void {
		request.end();
		this.#inFlight--;
	}

	/** Makes `#publish` run after this batch of completions. */
	#stage(): void {
		if (this.#staged) return;
		this.#staged = true;
		queueMicrotask(() => {
			this.#staged = false;
			this.#enter(this.name, this.#later);
		});
	}

	/** Ends a batch: submits what was queued (again, when answers from inside `submit` queued more), then flushes. */
	#publish(): void {
		while (this.#queued) {
			this.#queued = false;
			this.#backend.submit();
		}
		this.#staged = false;
		for (const queue of this.#queues) queue?.flush();
	}

	#refuse(what: string): number {
		logRateLimited(this.name, "warn", `refused ${what}`);
		return VIRTIO_BLK_S_IOERR;
	}
}

function refusal(name: string, why: string): UsageError {
	return new UsageError("ERR_DISK_REPLACE", `Cannot replace the disk of ${name}: ${why}`);
}

const STATUS: Record<BlockResult, number> = {
	ok: VIRTIO_BLK_S_OK,
	io: VIRTIO_BLK_S_IOERR,
	unsupported: VIRTIO_BLK_S_UNSUPP,
};
const STATUS_BYTE = new Uint8Array(1);

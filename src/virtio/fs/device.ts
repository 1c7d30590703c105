/*
 * The file system device (virtio 1.2 §5.11): FUSE requests over virtqueues. Queue 0 is for requests that must not wait
 * behind others (FORGET), the others are alike.
 *
 *     chain -> FuseRequest.begin -> FuseServer.serve ... FuseRequest.finish -> push, one flush per batch
 *
 * Requests are answered in any order. Reset with requests in flight: the file system may use their buffers until it has
 * answered. Only then the reset is complete. The guest's nodes and files are released.
 */
import type { FileSystem } from "../../backends/contract.ts";
import { type Enter, enterDirectly } from "../../base/enter.ts";
import { UsageError } from "../../base/errors.ts";
import { log, logRateLimited } from "../../base/log.ts";
import { type SavedState, StateReader } from "../../base/state.ts";
import type { Activation, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue.ts";
import { type CacheMode, CachePolicy } from "./cache-policy.ts";
import { FuseRequest } from "./request.ts";
import { FuseServer } from "./server.ts";
import { type LostParts, readSession, type Session, saveSession } from "./session.ts";
import { virtio_fs_config } from "./structs.ts";

/** Device ID, virtio 1.2 §5.11.1. */
export const VIRTIO_ID_FS = 26;
const TAG_BYTES = 36;
const EINVAL = 22;
/** Requests of FORGET alone. */
const HIPRIO_SIZE = 64;
/** As large as it may be: a request of 1 MiB takes 256 descriptors where the driver has no indirect ones. */
const REQUEST_SIZE = 1024;

/** The name of a file system device, and what its guest may cache. */
export interface FsDeviceOptions {
	/** For logs and traces; "virtio-fs0". */
	name?: string;
	/** What the guest may cache of the file system; "auto" when missing. */
	cache?: CacheMode;
}

/** The file system device (virtio 1.2 §5.11): a file system that the guest mounts by its tag. It owns its backend. */
export class FsDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_FS;
	readonly features = 0n;
	readonly queueSizes = [HIPRIO_SIZE, REQUEST_SIZE];
	readonly config = new Uint8Array(virtio_fs_config.sizeof);
	readonly #tag: string;
	readonly #server: FuseServer;
	/** Per queue, one per head index, from its first use on. */
	readonly #requests: readonly (FuseRequest | undefined)[][];
	#queues: Activation["queues"] = [];
	#enter: Enter = enterDirectly;
	#inFlight = 0;
	/** Who waits in `quiesce`. */
	#onIdle: (() => void)[] = [];
	/** What the guest held when it was saved, and the state that says so: until the guest goes on. */
	#saved: { readonly session: Session; readonly state: SavedState } | undefined;
	/** `#publish` will run: at the end of `notify`, or in a microtask. */
	#staged = false;
	readonly #later = () => this.#publish();

	/**
	 * @param tag what the guest mounts: 1 to 36 bytes
	 * @param fileSystem closed with the device
	 * @throws UsageError ERR_FS_TAG
	 */
	constructor(tag: string, fileSystem: FileSystem, { name = "virtio-fs0", cache = "auto" }: FsDeviceOptions = {}) {
		this.name = name;
		this.#tag = tag;
		this.config.set(encodeTag(tag));
		new DataView(this.config.buffer).setUint32(virtio_fs_config.num_request_queues, this.queueSizes.length - 1, true);
		this.#server = new FuseServer(fileSystem, new CachePolicy(cache), name);
		this.#requests = this.queueSizes.map((size) => new Array<undefined>(size).fill(undefined));
	}

	activate({ queues, enter }: Activation): void {
		this.#queues = queues;
		this.#enter = enter;
	}

	notify(index: number): void {
		const queue = this.#queues[index];
		if (queue === undefined) return;
		if (this.#saved !== undefined) this.#goOn(this.#saved.session);
		this.#staged = true;
		const requests = this.#requests[index]!;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			requests[chain.head] ??= new FuseRequest();
			this.#begin(requests[chain.head]!, chain, queue);
		}
		this.#publish();
	}

	reset(): Promise<void> | undefined {
		this.#queues = [];
		this.#saved = undefined;
		if (this.#inFlight === 0) {
			this.#server.forgetAll();
			return undefined;
		}
		for (const requests of this.#requests) {
			for (const request of requests) if (request?.chain !== undefined) request.stale = true;
		}
		return this.quiesce().then(() => this.#server.forgetAll());
	}

	/** Waits for the answers to all requests. */
	async quiesce(): Promise<void> {
		while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
	}

	save(): SavedState {
		if (this.#saved !== undefined) return this.#saved.state;
		return { version: 1, tag: this.#tag, cache: this.#server.cache.mode, ...saveSession(this.#server) };
	}

	/** What the guest holds is opened again when it goes on: on threads, before its first request is served. */
	restore(state: unknown, activation: Activation | undefined): void {
		const reader = new StateReader(this.name, state).version(1);
		const [tag, cache] = [reader.string("tag", TAG_BYTES), reader.string("cache", TAG_BYTES)];
		if (tag !== this.#tag) throw reader.mismatch(`it had tag "${tag}", not "${this.#tag}"`);
		if (cache !== this.#server.cache.mode)
			throw reader.mismatch(`its guest caches "${cache}", not "${this.#server.cache.mode}"`);
		const session = readSession(reader, this.#server);
		this.#server.numberFrom(session);
		/* A driver that has to reset the device first holds nothing any more. */
		if (activation === undefined) return;
		this.activate(activation);
		if (session.isMounted) this.#saved = { session, state: reader.value as SavedState };
	}

	async close(): Promise<void> {
		await this.reset();
		await this.#server.fileSystem.close?.();
	}

	/** Has the guest's nodes and files opened again, which counts as a request in flight. */
	#goOn(session: Session): void {
		this.#saved = undefined;
		this.#inFlight++;
		void this.#server.restore(session).then((lost) => {
			if (lost.nodes + lost.handles > 0) this.#enter(this.name, () => this.#tell(lost));
			this.#settle();
		});
	}

	#tell({ nodes, handles, example }: LostParts): void {
		const what = `${nodes} of the guest's files are not there any more, and ${handles} that it has open`;
		log("warn", `${this.name}: ${what}; the first is ${example}`);
	}

	/** Reads a new request and has it served. */
	#begin(request: FuseRequest, chain: Chain, queue: Virtqueue): void {
		this.#inFlight++;
		if (!request.begin(chain, queue)) {
			const { totalBytes } = chain.readable;
			logRateLimited(this.name, "warn", `refused a request of ${totalBytes} bytes that is none`);
			this.#end(request, EINVAL);
			return;
		}
		void this.#server.serve(request).then((errno) => this.#served(request, errno));
	}

	#served(request: FuseRequest, errno: number): void {
		if (!request.stale) this.#enter(this.name, () => this.#end(request, errno));
		if (request.chain === undefined) return;
		/* Nothing enters any more: the machine has ended. */
		request.stale = true;
		this.#end(request, errno);
	}

	/** Answers a request, or drops the answer when a reset has overtaken it. */
	#end(request: FuseRequest, errno: number): void {
		const { chain, queue, stale } = request;
		const written = stale || !request.wantsAnswer ? 0 : request.finish(errno);
		request.end();
		if (!stale) queue!.push(chain!, written);
		this.#stage();
		this.#settle();
	}

	#settle(): void {
		if (--this.#inFlight > 0) return;
		for (const resolve of this.#onIdle.splice(0)) resolve();
	}

	/** Makes `#publish` run after this batch of answers. */
	#stage(): void {
		if (this.#staged) return;
		this.#staged = true;
		queueMicrotask(() => this.#enter(this.name, this.#later));
	}

	/** Ends a batch of answers. */
	#publish(): void {
		this.#staged = false;
		for (const queue of this.#queues) queue?.flush();
	}
}

/**
 * The bytes of a tag.
 *
 * @throws UsageError ERR_FS_TAG
 */
export function encodeTag(tag: string): Uint8Array {
	const bytes = Buffer.from(tag);
	if (bytes.length > 0 && bytes.length <= TAG_BYTES && !tag.includes("\0")) return bytes;
	const message = `Cannot use file system tag ${JSON.stringify(tag)}: it has ${bytes.length} bytes or a NUL`;
	throw new UsageError("ERR_FS_TAG", message, { hint: `Use 1 to ${TAG_BYTES} bytes` });
}

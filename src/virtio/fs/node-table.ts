/*
 * The nodes that the guest holds, by their number (nodeid). Each answer that names a node adds a lookup, and FORGET
 * removes lookups: without any the node is freed. A request that uses a node pins it, so a FORGET cannot free it
 * meanwhile.
 *
 * A number is never used again, so a generation is not needed.
 */
import type { FileSystem } from "../../backends/contract.ts";
import { ErrnoError } from "../../base/errno-error.ts";
import { FUSE_ROOT_ID } from "./constants.ts";
import type { FuseRequest } from "./request.ts";

/** Nodes that one guest may hold at a time. */
export const MAX_NODES = 4 * 1024 * 1024;

/** A node of the file system, as the guest holds it. */
export class NodeEntry {
	readonly id: number;
	readonly node: object;
	/** Answers that named it, less what was forgotten. */
	lookups = 0;
	/** Requests in flight and open files that use it. */
	users = 0;
	/** Its state at the last open; see cache-policy.ts. */
	seen = "";
	/** The guest holds it from before a restore, and it is not there any more. `node` stands for nothing then. */
	readonly isLost: boolean;

	constructor(id: number, node: object | undefined) {
		this.id = id;
		this.node = node ?? {};
		this.isLost = node === undefined;
	}
}

export class NodeTable {
	readonly #fileSystem: FileSystem;
	readonly #byId = new Map<number, NodeEntry>();
	readonly #byNode = new Map<object, NodeEntry>();
	readonly #root: NodeEntry;
	/** The next number. */
	nextId = FUSE_ROOT_ID + 1;

	constructor(fileSystem: FileSystem) {
		this.#fileSystem = fileSystem;
		this.#root = new NodeEntry(FUSE_ROOT_ID, fileSystem.root);
		this.#keep(this.#root);
	}

	/** How many there are besides the root. */
	get size(): number {
		return this.#byId.size - 1;
	}

	/** All of them besides the root. */
	get entries(): NodeEntry[] {
		return [...this.#byId.values()].filter((entry) => entry !== this.#root);
	}

	/** The one of that number. */
	get(id: number): NodeEntry | undefined {
		return this.#byId.get(id);
	}

	/** Puts in a node that a guest has held before a restore; undefined when it was not found. */
	restore(id: number, lookups: number, node: object | undefined): NodeEntry {
		const entry = new NodeEntry(id, node !== undefined && this.#byNode.has(node) ? undefined : node);
		entry.lookups = lookups;
		this.#byId.set(id, entry);
		if (!entry.isLost) this.#byNode.set(entry.node, entry);
		return entry;
	}

	/** Frees what a guest was said to hold and does not. */
	releaseUnused(): void {
		for (const entry of this.entries) this.#release(entry);
	}

	/** The node that a request names, which stays until the request ends. @throws ErrnoError ESTALE for one that is not held */
	use(id: number, request: FuseRequest): NodeEntry {
		const entry = this.#byId.get(id);
		if (entry === undefined || entry.isLost) throw ErrnoError.of("ESTALE");
		this.pin(entry);
		request.onEnd.push(() => this.unpin(entry));
		return entry;
	}

	pin(entry: NodeEntry): void {
		entry.users++;
	}

	unpin(entry: NodeEntry): void {
		entry.users--;
		this.#release(entry);
	}

	/** An answer names `node`. @throws ErrnoError ENFILE when the guest holds too many; then it is forgotten */
	found(node: object): NodeEntry {
		let entry = this.#byNode.get(node);
		if (entry === undefined) {
			if (this.#byId.size > MAX_NODES) {
				this.#fileSystem.forget?.(node);
				throw ErrnoError.of("ENFILE");
			}
			entry = new NodeEntry(this.nextId++, node);
			this.#keep(entry);
		}
		entry.lookups++;
		return entry;
	}

	/** The guest gives `lookups` back. If they are more than it has, it gives all back. */
	forget(id: number, lookups: number): void {
		const entry = this.#byId.get(id);
		if (entry === undefined || entry === this.#root) return;
		entry.lookups = Math.max(0, entry.lookups - lookups);
		this.#release(entry);
	}

	/** The guest has gone: it holds nothing any more. */
	clear(): void {
		for (const entry of [...this.#byId.values()]) {
			entry.lookups = 0;
			this.#release(entry);
		}
	}

	#keep(entry: NodeEntry): void {
		this.#byId.set(entry.id, entry);
		this.#byNode.set(entry.node, entry);
	}

	#release(entry: NodeEntry): void {
		if (entry.lookups > 0 || entry.users > 0 || entry === this.#root) return;
		if (!this.#byId.delete(entry.id)) return;
		if (entry.isLost) return;
		this.#byNode.delete(entry.node);
		this.#fileSystem.forget?.(entry.node);
	}
}

/*
 * The files and directories that the guest has open, by their number (fh). A request that uses one pins it: a RELEASE
 * during a READ takes effect when the READ has ended.
 */
import type { FileSystem, OpenFile } from "../../backends/contract.ts";
import { ErrnoError } from "../../base/errno-error.ts";
import type { NodeEntry, NodeTable } from "./node-table.ts";
import type { FuseRequest } from "./request.ts";

/** Files that one guest may have open at a time. */
export const MAX_HANDLES = 256 * 1024;

export class Handle implements OpenFile<object, object> {
	readonly entry: NodeEntry;
	readonly file: object | undefined;
	readonly isDirectory: boolean;
	/** The guest has it open from before a restore, and it could not be opened again. */
	readonly isLost: boolean;
	/** Requests in flight that use it, and one while the guest has it open. */
	users = 1;

	constructor(entry: NodeEntry, file: object | undefined, isDirectory: boolean, isLost = false) {
		this.entry = entry;
		this.file = file;
		this.isDirectory = isDirectory;
		this.isLost = isLost;
	}

	get node(): object {
		return this.entry.node;
	}
}

export class HandleTable {
	readonly #fileSystem: FileSystem;
	readonly #nodes: NodeTable;
	readonly #handles = new Map<number, Handle>();
	/** The next number. */
	nextId = 1;

	constructor(fileSystem: FileSystem, nodes: NodeTable) {
		this.#fileSystem = fileSystem;
		this.#nodes = nodes;
	}

	/** How many are open. */
	get size(): number {
		return this.#handles.size;
	}

	/** All of them, by their numbers. */
	get entries(): [id: number, handle: Handle][] {
		return [...this.#handles];
	}

	/** Puts in what a guest has had open before a restore. */
	restore(id: number, handle: Handle): void {
		this.#nodes.pin(handle.entry);
		this.#handles.set(id, handle);
	}

	/** @throws ErrnoError ENFILE when the guest has too many open */
	checkRoom(): void {
		if (this.#handles.size >= MAX_HANDLES) throw ErrnoError.of("ENFILE");
	}

	/** The guest has opened `file`; its number. */
	add(entry: NodeEntry, file: object | undefined, isDirectory: boolean): number {
		const id = this.nextId++;
		this.restore(id, new Handle(entry, file, isDirectory));
		return id;
	}

	/** The open file that a request names, which stays open until the request ends. @throws ErrnoError EBADF, ESTALE */
	use(id: number, request: FuseRequest, isDirectory = false): Handle {
		const handle = this.#handles.get(id);
		if (handle === undefined || handle.isDirectory !== isDirectory) throw ErrnoError.of("EBADF");
		if (handle.isLost) throw ErrnoError.of("ESTALE");
		handle.users++;
		request.onEnd.push(() => this.#drop(handle));
		return handle;
	}

	/** The guest has closed it. */
	remove(id: number): void {
		const handle = this.#handles.get(id);
		if (handle === undefined) return;
		this.#handles.delete(id);
		this.#drop(handle);
	}

	/** The guest has gone. */
	clear(): void {
		for (const id of [...this.#handles.keys()]) this.remove(id);
	}

	#drop(handle: Handle): void {
		if (--handle.users > 0) return;
		if (!handle.isLost) this.#fileSystem.release?.(handle);
		this.#nodes.unpin(handle.entry);
	}
}

/*
 * The FUSE server carries out requests on a file system.
 *
 *     FsDevice (chains) -> FuseServer.serve -> OPERATIONS[opcode] -> FileSystem -> FuseRequest.finish
 *
 * The server has the nodes that the guest holds, with their lookups, and its open files. It checks the guest's
 * requests. The file system gets only plain names, and its own nodes and files.
 */
import type { FileSystem } from "../../backends/contract.ts";
import { type Errno, ErrnoError, errnoOf } from "../../base/errno-error.ts";
import { logRateLimited } from "../../base/log.ts";
import type { CachePolicy } from "./cache-policy.ts";
import { FUSE_INIT } from "./constants.ts";
import { HandleTable } from "./handle-table.ts";
import { NodeTable } from "./node-table.ts";
import { directoryOperations } from "./operations/directories.ts";
import { fileOperations } from "./operations/files.ts";
import { nameOperations } from "./operations/names.ts";
import { nodeOperations } from "./operations/nodes.ts";
import { sessionOperations } from "./operations/session.ts";
import type { FuseRequest } from "./request.ts";
import { type LostParts, restoreSession, type Session } from "./session.ts";

/** The operation of an opcode. */
export interface Operation {
	/** Reads the request and puts its answer into it. @throws ErrnoError, or an error of the file system */
	readonly run: (server: FuseServer, request: FuseRequest) => Promise<void>;
	/** The method of the file system that it calls. */
	readonly needs?: keyof FileSystem;
	/** The answer where the file system has no such method; ENOSYS when missing: Linux does it in another way then. */
	readonly otherwise?: Errno;
	/** True: refused by a read-only file system. */
	readonly changes?: boolean;
}

const OPERATIONS: Readonly<Record<number, Operation>> = {
	...sessionOperations,
	...nameOperations,
	...nodeOperations,
	...fileOperations,
	...directoryOperations,
};

export class FuseServer {
	readonly fileSystem: FileSystem;
	readonly cache: CachePolicy;
	readonly nodes: NodeTable;
	readonly handles: HandleTable;
	/** The guest has mounted: FUSE_INIT was answered. */
	isMounted = false;
	/** Of the device, for logs. */
	readonly name: string;
	/** What the guest has held before a restore is being opened again. Requests wait for it. */
	#restoring: Promise<void> | undefined;

	/** @param name of the device, for logs */
	constructor(fileSystem: FileSystem, cache: CachePolicy, name: string) {
		this.fileSystem = fileSystem;
		this.cache = cache;
		this.nodes = new NodeTable(fileSystem);
		this.handles = new HandleTable(fileSystem, this.nodes);
		this.name = name;
	}

	/** Whether nothing may be written. */
	get isReadOnly(): boolean {
		return this.fileSystem.readOnly === true || this.fileSystem.write === undefined;
	}

	/** Does what the request asks for. Gives the errno of the answer, 0 when all went well; never rejects. */
	async serve(request: FuseRequest): Promise<number> {
		try {
			if (this.#restoring !== undefined) await this.#restoring;
			await this.#operation(request.opcode).run(this, request);
			return 0;
		} catch (error) {
			return this.#errno(error);
		}
	}

	/** Gives a guest no number that it has had before. */
	numberFrom({ nextNode, nextHandle }: Session): void {
		this.nodes.nextId = nextNode;
		this.handles.nextId = nextHandle;
	}

	/** Opens again what the guest holds. Requests are served afterwards. Never rejects. */
	async restore(session: Session): Promise<LostParts> {
		this.isMounted = true;
		const work = restoreSession(this, session);
		this.#restoring = work.then(() => {
			this.#restoring = undefined;
		});
		return await work;
	}

	/** The guest has unmounted, or is gone: it holds nothing any more. What requests in flight use stays until they end. */
	forgetAll(): void {
		this.isMounted = false;
		this.handles.clear();
		this.nodes.clear();
	}

	/** @throws ErrnoError when this cannot be done */
	#operation(opcode: number): Operation {
		const operation = OPERATIONS[opcode];
		if (operation === undefined) throw ErrnoError.of("ENOSYS");
		if (!this.isMounted && opcode !== FUSE_INIT) throw ErrnoError.of("EIO");
		const { needs, otherwise = "ENOSYS", changes = false } = operation;
		if (changes && this.fileSystem.readOnly === true) throw ErrnoError.of("EROFS");
		if (needs !== undefined && this.fileSystem[needs] === undefined) throw ErrnoError.of(otherwise);
		return operation;
	}

	#errno(error: unknown): number {
		const errno = errnoOf(error);
		if (errno !== undefined) return errno;
		const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
		logRateLimited(this.name, "error", `the file system has failed: ${what}`);
		return ErrnoError.of("EIO").number;
	}
}

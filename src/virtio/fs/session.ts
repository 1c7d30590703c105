/*
 * What a guest holds of a file system, as plain data: nodes by their numbers with their lookups, and open files. What they
 * are on the host the file system knows (FileSystemState of backends/file-system.ts).
 *
 *     saveSession -> plain data -> readSession, which checks all of it -> restoreSession, before the first request
 *
 * A node that is not there any more, or is another one, is lost: the guest gets ESTALE for it, and goes on with the rest.
 * Locks are no part of it, because a guest's locks are its own.
 */
import type { SavedFile, SavedNode } from "../../backends/contract.ts";
import { errnoName, StateError } from "../../base/errors.ts";
import type { StateObject, StateReader } from "../../base/state.ts";
import { FUSE_ROOT_ID } from "./constants.ts";
import { Handle, MAX_HANDLES } from "./handle-table.ts";
import { MAX_NODES, type NodeEntry } from "./node-table.ts";
import type { FuseServer } from "./server.ts";

const NAMES_IN_MESSAGE = 3;
/** So many nodes are found before other events have their turn. */
const AT_ONCE = 256;

/** A session that was read. */
export interface Session {
	readonly isMounted: boolean;
	readonly nextNode: number;
	readonly nextHandle: number;
	readonly nodes: readonly HeldNode[];
	readonly handles: readonly OpenHandle[];
}

interface HeldNode {
	readonly id: number;
	readonly lookups: number;
	/** Undefined for one that had no name any more. */
	readonly saved: SavedNode | undefined;
}

interface OpenHandle {
	readonly id: number;
	readonly nodeid: number;
	readonly isDirectory: boolean;
	/** Undefined for one that was lost before. */
	readonly saved: SavedFile | undefined;
}

/** A file of a file system without state of open files. */
const STATELESS: SavedFile = { open: () => undefined };

/** What was not there any more. */
export interface LostParts {
	nodes: number;
	handles: number;
	/** One of them, with the reason. */
	example: string;
}

/**
 * The session of a guest that waits for nothing.
 *
 * @throws StateError ERR_STATE_UNSUPPORTED when it has files open that nobody could find again
 */
export function saveSession({ fileSystem, nodes, handles, isMounted, name }: FuseServer): StateObject {
	const { state } = fileSystem;
	if (isMounted && state === undefined) {
		throw new StateError("ERR_STATE_UNSUPPORTED", `Cannot save ${name}: its guest has mounted it`, {
			hint: "Give the file system a state (docs/virtio-fs.md), or let the guest unmount it",
		});
	}
	const unnamed = new Set<NodeEntry>();
	const savedNodes = nodes.entries.map((entry) => {
		const { id, lookups } = entry;
		const node = entry.isLost ? undefined : state?.saveNode(entry.node);
		if (node === undefined && !entry.isLost) unnamed.add(entry);
		return node === undefined ? { id, lookups } : { id, lookups, node };
	});
	const savedHandles = handles.entries.map(([id, handle]) => {
		const { entry, isDirectory, isLost, file } = handle;
		const common = { id, nodeid: entry.id, isDirectory };
		return isLost || file === undefined ? { ...common, isLost } : { ...common, isLost, file: state!.saveFile(handle) };
	});
	const open = new Set(handles.entries.flatMap(([, { entry }]) => (unnamed.has(entry) ? [entry] : [])));
	if (open.size > 0)
		throw cannotFind(
			name,
			[...open].map(({ node }) => state!.nameOf(node)),
		);
	const numbers = { nextNode: nodes.nextId, nextHandle: handles.nextId };
	return { isMounted, ...numbers, nodes: savedNodes, handles: savedHandles };
}

function cannotFind(name: string, files: readonly string[]): StateError {
	const more = files.length > NAMES_IN_MESSAGE ? ` and ${files.length - NAMES_IN_MESSAGE} more` : "";
	const which = files.slice(0, NAMES_IN_MESSAGE).join(", ") + more;
	return new StateError("ERR_STATE_UNSUPPORTED", `Cannot save ${name}: its guest has deleted files open: ${which}`, {
		hint: "End the programs that have them open, or let them open these files anew",
	});
}

/** @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_MISMATCH for a file system that cannot find nodes again */
export function readSession(reader: StateReader, { fileSystem: { state } }: FuseServer): Session {
	const isMounted = reader.boolean("isMounted");
	if (isMounted && state === undefined) throw reader.mismatch("it was mounted, and this file system has no state");
	const nextNode = reader.integer("nextNode", FUSE_ROOT_ID + 1, Number.MAX_SAFE_INTEGER);
	const nextHandle = reader.integer("nextHandle", 1, Number.MAX_SAFE_INTEGER);
	const known = new Set([FUSE_ROOT_ID]);
	const nodes = reader.list("nodes", 0, isMounted ? MAX_NODES : 0).map((node): HeldNode => {
		const id = unused(node, known, nextNode);
		const lookups = node.integer("lookups", 0, Number.MAX_SAFE_INTEGER);
		return { id, lookups, saved: node.has("node") ? state!.readNode(node.object("node")) : undefined };
	});
	const open = new Set<number>();
	const handles = reader.list("handles", 0, isMounted ? MAX_HANDLES : 0).map((handle): OpenHandle => {
		const id = unused(handle, open, nextHandle);
		const nodeid = handle.integer("nodeid", FUSE_ROOT_ID, nextNode);
		if (!known.has(nodeid)) throw handle.refuse(`there is no node ${nodeid}`);
		const isDirectory = handle.boolean("isDirectory");
		if (handle.boolean("isLost")) return { id, nodeid, isDirectory, saved: undefined };
		const saved = handle.has("file") ? state!.readFile(handle.object("file")) : STATELESS;
		return { id, nodeid, isDirectory, saved };
	});
	return { isMounted, nextNode, nextHandle, nodes, handles };
}

/** A number that was given, and to one thing only. */
function unused(reader: StateReader, known: Set<number>, next: number): number {
	const id = reader.integer("id", 1, next - 1);
	if (known.has(id)) throw reader.refuse(`there are two with number ${id}`);
	known.add(id);
	return id;
}

/** Gives a fresh server a session. Never rejects. @returns what could not be found or opened */
export async function restoreSession({ nodes, handles }: FuseServer, session: Session): Promise<LostParts> {
	const lost: LostParts = { nodes: 0, handles: 0, example: "" };
	const names = new Map<number, string>();
	for (const [i, { id, lookups, saved }] of session.nodes.entries()) {
		if (i % AT_ONCE === AT_ONCE - 1) await new Promise<void>((resolve) => setImmediate(resolve));
		const node = await found(lost, saved?.name ?? "", async () => await saved?.find());
		if (saved !== undefined) names.set(id, saved.name);
		if (nodes.restore(id, lookups, node).isLost && saved !== undefined) lost.nodes++;
	}
	for (const { id, nodeid, isDirectory, saved } of session.handles) {
		const entry = nodes.get(nodeid)!;
		const file = entry.isLost ? undefined : saved;
		const name = names.get(nodeid) ?? "/";
		const opened = file && (await found(lost, name, async () => ({ file: await file.open(entry.node) })));
		if (opened === undefined && saved !== undefined) lost.handles++;
		handles.restore(id, new Handle(entry, opened?.file, isDirectory, opened === undefined));
	}
	nodes.releaseUnused();
	return lost;
}

/** What `find` finds; undefined when it fails, which is noted. */
async function found<T>(lost: LostParts, name: string, find: () => Promise<T>): Promise<T | undefined> {
	try {
		return await find();
	} catch (error) {
		lost.example ||= `${name} (${errnoName(error) ?? (error as Error).message})`;
		return undefined;
	}
}

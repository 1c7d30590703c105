/*
 * The answers that several operations give: attributes, and a node with its attributes.
 */
import type { Attributes } from "../../backends/contract.ts";
import type { NodeEntry } from "./node-table.ts";
import type { Fields, FuseRequest } from "./request.ts";
import type { FuseServer } from "./server.ts";
import { fuse_attr, fuse_attr_out, fuse_entry_out, fuse_open_out } from "./structs.ts";

const BLOCK_BYTES = 512;
const ATTR = fuse_attr;

/** Writes a fuse_attr `offset` bytes into a struct. */
function putAttributes(into: Fields, offset: number, attributes: Attributes, id: number): void {
	const { size = 0 } = attributes;
	into.setU64(offset + ATTR.ino, attributes.ino ?? id);
	into.setU64(offset + ATTR.size, size);
	into.setU64(offset + ATTR.blocks, attributes.blocks ?? Math.ceil(size / BLOCK_BYTES));
	into.setS64(offset + ATTR.atime, attributes.atime ?? 0);
	into.setS64(offset + ATTR.mtime, attributes.mtime ?? 0);
	into.setS64(offset + ATTR.ctime, attributes.ctime ?? 0);
	into.setU32(offset + ATTR.atimensec, attributes.atimensec ?? 0);
	into.setU32(offset + ATTR.mtimensec, attributes.mtimensec ?? 0);
	into.setU32(offset + ATTR.ctimensec, attributes.ctimensec ?? 0);
	into.setU32(offset + ATTR.mode, attributes.mode);
	into.setU32(offset + ATTR.nlink, attributes.nlink ?? 1);
	into.setU32(offset + ATTR.uid, attributes.uid ?? 0);
	into.setU32(offset + ATTR.gid, attributes.gid ?? 0);
	into.setU32(offset + ATTR.rdev, attributes.rdev ?? 0);
	into.setU32(offset + ATTR.blksize, attributes.blksize ?? 4096);
}

/** Fills a fuse_entry_out. The guest may keep names and attributes as long as the policy says. */
export function putEntry(into: Fields, entry: NodeEntry, attributes: Attributes, seconds: number): void {
	into.setU64(fuse_entry_out.nodeid, entry.id);
	into.setU64(fuse_entry_out.entry_valid, seconds);
	into.setU64(fuse_entry_out.attr_valid, seconds);
	putAttributes(into, fuse_entry_out.attr, attributes, entry.id);
}

/** Answers with a node that the guest holds from now on. */
export async function answerNode(server: FuseServer, request: FuseRequest, node: object): Promise<NodeEntry> {
	const entry = server.nodes.found(node);
	server.nodes.pin(entry);
	request.onEnd.push(() => server.nodes.unpin(entry));
	try {
		const attributes = await server.fileSystem.getattr(node);
		putEntry(request.answer(fuse_entry_out.sizeof), entry, attributes, server.cache.seconds);
		return entry;
	} catch (error) {
		server.nodes.forget(entry.id, 1);
		throw error;
	}
}

/** Answers that there is no such name, which the guest may keep as it keeps others: a fuse_entry_out without a node. */
export function answerMissing(server: FuseServer, request: FuseRequest): void {
	request.answer(fuse_entry_out.sizeof).setU64(fuse_entry_out.entry_valid, server.cache.seconds);
}

/** Answers with attributes. */
export function answerAttributes(
	server: FuseServer,
	request: FuseRequest,
	entry: NodeEntry,
	attributes: Attributes,
): void {
	const out = request.answer(fuse_attr_out.sizeof);
	out.setU64(fuse_attr_out.attr_valid, server.cache.seconds);
	putAttributes(out, fuse_attr_out.attr, attributes, entry.id);
}

/** Answers with an open file. */
export function answerOpen(request: FuseRequest, fh: number, flags: number): void {
	const out = request.answer(fuse_open_out.sizeof);
	out.setU64(fuse_open_out.fh, fh);
	out.setU32(fuse_open_out.open_flags, flags);
}

/*
 * Gives the root directory of a squashfs its owner and time. sqfstar 4.5.1 of Debian 12 obeys -root-mode, but ignores
 * -root-uid, -root-gid, -root-time and the tar's entry for "./". It gives the root directory to the user who runs it.
 * If user 1000 built the image, the guest's user 1000 could write in /. Inodes and the id table are uncompressed
 * (-noI), so owner and time are a few bytes to overwrite.
 *
 *     superblock.root_inode -> metadata block (2-byte length, 8 KiB of inodes) -> uid, gid (indices), mtime
 *     superblock.id_table   -> positions of metadata blocks -> uint32 ids
 *
 * Layout: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.
 */
import type { FileHandle } from "node:fs/promises";
import { HostError } from "../../base/errors.ts";

const MAGIC = 0x73717368;
const superblock = {
	magic: 0,
	no_ids: 26,
	root_inode: 32,
	bytes_used: 40,
	id_table_start: 48,
	inode_table_start: 64,
	sizeof: 96,
};
const inode = { uid: 4, gid: 6, mtime: 8 };
const METADATA = 8192;
const UNCOMPRESSED = 0x8000;
const IDS_PER_BLOCK = METADATA / 4;

/** mksquashfs pads its images to this. */
const PADDING = 4096;

export interface RootOwner {
	uid: number;
	gid: number;
	/** Seconds, 0 to 2^32 - 1. */
	mtime: number;
}

/** True when the image is as long as its superblock says. sqfstar writes the superblock last. */
export async function isWhole(handle: FileHandle): Promise<boolean> {
	const { size } = await handle.stat();
	if (size < superblock.sizeof) return false;
	const head = await readAt(handle, 0, superblock.sizeof);
	if (head.readUInt32LE(superblock.magic) !== MAGIC) return false;
	return size === Math.ceil(Number(head.readBigUInt64LE(superblock.bytes_used)) / PADDING) * PADDING;
}

/**
 * Gives the root directory its owner and time.
 *
 * @param handle the image, open for reading and writing
 * @param used whether a file of the image has this id, so that its entry in the id table must stay
 * @throws HostError ERR_ROOTFS_BUILD when the image is not laid out as expected
 */
export async function patchRootInode(
	handle: FileHandle,
	wanted: RootOwner,
	used: (id: number) => boolean,
): Promise<void> {
	const head = await readAt(handle, 0, superblock.sizeof);
	if (head.readUInt32LE(superblock.magic) !== MAGIC) throw unexpected("no superblock");
	const ids = await readIds(handle, head);
	const reference = head.readBigUInt64LE(superblock.root_inode);
	const block = Number(head.readBigUInt64LE(superblock.inode_table_start)) + Number(reference >> 16n);
	const at = (offset: number) => inodeByte(handle, block, Number(reference & 0xffffn) + offset);

	for (const [field, id] of [
		[inode.uid, wanted.uid],
		[inode.gid, wanted.gid],
	] as const) {
		const position = await at(field);
		const index = (await readAt(handle, position, 2)).readUInt16LE();
		/*
		 * The table cannot grow. An id that it lacks replaces the builder's, unless a file of the image has the
		 * builder's id. Then the root directory becomes root's, or stays the builder's if the table lacks root too.
		 */
		const own = ids[index];
		if (own === undefined) throw unexpected("an owner that is not in the id table");
		const exact = ids.findIndex((entry) => entry.id === id);
		const found = exact >= 0 || !used(own.id) ? exact : ids.findIndex((entry) => entry.id === 0);
		if (found >= 0) {
			const data = Buffer.alloc(2);
			data.writeUInt16LE(found);
			await handle.write(data, 0, 2, position);
			continue;
		}
		if (used(own.id)) continue;
		await writeU32(handle, own.position, id);
		own.id = id;
	}
	await writeU32(handle, await at(inode.mtime), wanted.mtime);
}

async function readIds(handle: FileHandle, head: Buffer): Promise<{ id: number; position: number }[]> {
	const count = head.readUInt16LE(superblock.no_ids);
	const start = Number(head.readBigUInt64LE(superblock.id_table_start));
	const ids: { id: number; position: number }[] = [];
	for (let i = 0; ids.length < count; i++) {
		const block = Number((await readAt(handle, start + 8 * i, 8)).readBigUInt64LE());
		const data = await readAt(handle, block + 2, 4 * Math.min(IDS_PER_BLOCK, count - ids.length));
		await metadataLength(handle, block);
		for (let at = 0; at < data.length; at += 4) ids.push({ id: data.readUInt32LE(at), position: block + 2 + at });
	}
	return ids;
}

/** The position in the file of a byte of the inode table, `offset` bytes after the start of a metadata block. */
async function inodeByte(handle: FileHandle, block: number, offset: number): Promise<number> {
	let start = block;
	let rest = offset;
	for (let length = await metadataLength(handle, start); rest >= length; length = await metadataLength(handle, start)) {
		start += 2 + length;
		rest -= length;
	}
	return start + 2 + rest;
}

async function metadataLength(handle: FileHandle, block: number): Promise<number> {
	const header = (await readAt(handle, block, 2)).readUInt16LE();
	const length = header & ~UNCOMPRESSED;
	if ((header & UNCOMPRESSED) === 0 || length === 0 || length > METADATA) throw unexpected("compressed metadata");
	return length;
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
	const buffer = Buffer.alloc(length);
	const { bytesRead } = await handle.read(buffer, 0, length, position);
	if (bytesRead < length) throw unexpected("a position beyond its end");
	return buffer;
}

async function writeU32(handle: FileHandle, position: number, value: number): Promise<void> {
	const data = Buffer.alloc(4);
	data.writeUInt32LE(value);
	await handle.write(data, 0, 4, position);
}

function unexpected(found: string): HostError {
	return new HostError("ERR_ROOTFS_BUILD", `Cannot build the root file system: sqfstar's image has ${found}`);
}

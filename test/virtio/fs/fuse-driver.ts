/*
 * A FUSE driver for tests: builds requests as Linux does and reads their answers, over a FakeDriver of an FsDevice.
 *
 *     const fuse = await FuseDriver.mount(new FsDevice("tag", fileSystem));
 *     const { nodeid } = await fuse.lookup(1, "hello");
 */
import { getU64, setU64 } from "../../../src/base/u64.ts";
import * as opcodes from "../../../src/virtio/fs/constants.ts";
import type { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { type DriverOptions, FakeDriver } from "../../driver/fake-driver.ts";
import { concat, readable, type Used, writable } from "../../driver/fake-queue.ts";
import { FakeRam } from "../../driver/fake-ram.ts";

const { fuse_in_header, fuse_out_header, fuse_attr, fuse_entry_out } = structs;
const REQUESTS = 1;
const HIPRIO = 0;

/** An answer: its error (0 or a positive errno) and what follows the header. */
export interface FuseAnswer {
	error: number;
	body: DataView;
	bytes: Uint8Array;
}

export interface FakeAttributes {
	ino: number;
	size: number;
	mode: number;
	nlink: number;
	uid: number;
	gid: number;
	mtime: number;
	mtimensec: number;
}

export interface FakeEntry extends FakeAttributes {
	nodeid: number;
}

/** A struct's bytes from its fields by name. */
export function fields(layout: { sizeof: number }, values: Record<string, number>, bytes = layout.sizeof): Uint8Array {
	const offsets = layout as unknown as Record<string, number>;
	const sizes = new Map<number, number>();
	const known = Object.entries(layout).filter(([, at]) => typeof at === "number") as [string, number][];
	const starts = known.filter(([name]) => name !== "sizeof" && name !== "alignof").map(([, at]) => at);
	for (const at of starts) sizes.set(at, Math.min(...starts.filter((s) => s > at), layout.sizeof) - at);
	const out = new Uint8Array(layout.sizeof);
	const view = new DataView(out.buffer);
	for (const [name, value] of Object.entries(values)) {
		const at = offsets[name]!;
		if (sizes.get(at)! >= 8) setU64(view, at, value);
		else view.setUint32(at, value, true);
	}
	return out.subarray(0, bytes);
}

/** Names with their NULs. */
export const names = (...texts: (string | Uint8Array)[]): Uint8Array =>
	concat(...texts.flatMap((text) => [typeof text === "string" ? Buffer.from(text) : text, Uint8Array.of(0)]));

export class FuseDriver {
	readonly driver: FakeDriver;
	/** Of the requests to come. */
	uid = 0;
	gid = 0;
	/** What FUSE_INIT has answered. */
	init: DataView | undefined;
	#unique = 1;

	/** @param driver of a device, started; or a device, which gets a driver */
	constructor(driver: FakeDriver | FsDevice, options: DriverOptions = {}) {
		const ram = options.ram ?? new FakeRam([[0, 12 << 20]]);
		this.driver = driver instanceof FakeDriver ? driver : new FakeDriver(driver, { ...options, ram }).start();
	}

	static async mount(device: FsDevice, options: DriverOptions = {}): Promise<FuseDriver> {
		const fuse = new FuseDriver(device, options);
		await fuse.mount();
		return fuse;
	}

	async mount(more: Record<string, number> = {}): Promise<void> {
		const values = { major: 7, minor: 38, max_readahead: 131_072, flags: 0x7fff_ffff, ...more };
		const { error, body } = await this.request(opcodes.FUSE_INIT, 0, fields(structs.fuse_init_in, values));
		if (error !== 0) throw new Error(`FUSE_INIT: ${error}`);
		this.init = body;
	}

	/** The bytes of a request. */
	encode(opcode: number, nodeid: number, ...parts: Uint8Array[]): Uint8Array {
		const body = concat(...parts);
		const { uid, gid } = this;
		const len = fuse_in_header.sizeof + body.length;
		const header = fields(fuse_in_header, { len, opcode, unique: this.#unique++, nodeid, uid, gid });
		return concat(header, body);
	}

	/** Sends a request with room for an answer of `room` bytes after the header. */
	async request(opcode: number, nodeid: number, ...parts: Uint8Array[]): Promise<FuseAnswer> {
		return await this.requestWithRoom(4096, opcode, nodeid, ...parts);
	}

	async requestWithRoom(room: number, opcode: number, nodeid: number, ...parts: Uint8Array[]): Promise<FuseAnswer> {
		return this.decode(await this.driver.queue(REQUESTS).next(this.send(room, opcode, nodeid, ...parts)));
	}

	/** Sends a request without waiting; its head. */
	send(room: number, opcode: number, nodeid: number, ...parts: Uint8Array[]): number {
		const queue = this.driver.queue(REQUESTS);
		const buffers = [writable(fuse_out_header.sizeof), ...(room > 0 ? [writable(room)] : [])];
		const head = queue.add([readable(this.encode(opcode, nodeid, ...parts)), ...buffers]);
		queue.kick();
		return head;
	}

	async answerTo(head: number): Promise<FuseAnswer> {
		return this.decode(await this.driver.queue(REQUESTS).next(head));
	}

	decode({ data, written }: Used): FuseAnswer {
		const view = new DataView(data.buffer, data.byteOffset, data.length);
		if (view.getUint32(fuse_out_header.len, true) !== written) throw new Error("the answer's length is wrong");
		const bytes = data.subarray(fuse_out_header.sizeof, written);
		const error = 0 - view.getInt32(fuse_out_header.error, true);
		return { error, bytes, body: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
	}

	/** FORGET on the queue that is for it. */
	async forget(nodeid: number, nlookup: number): Promise<void> {
		const queue = this.driver.queue(HIPRIO);
		const bytes = this.encode(opcodes.FUSE_FORGET, nodeid, fields(structs.fuse_forget_in, { nlookup }));
		await queue.request([readable(bytes)]);
	}

	async lookup(parent: number, name: string | Uint8Array): Promise<FakeEntry> {
		return entryOf(await this.ok(opcodes.FUSE_LOOKUP, parent, names(name)));
	}

	async getattr(nodeid: number): Promise<FakeAttributes> {
		const { body } = await this.ok(opcodes.FUSE_GETATTR, nodeid, fields(structs.fuse_getattr_in, {}));
		return attributesOf(body, structs.fuse_attr_out.attr);
	}

	async setattr(nodeid: number, valid: number, values: Record<string, number>): Promise<FakeAttributes> {
		const bytes = fields(structs.fuse_setattr_in, { valid, ...values });
		const { body } = await this.ok(opcodes.FUSE_SETATTR, nodeid, bytes);
		return attributesOf(body, structs.fuse_attr_out.attr);
	}

	async mkdir(parent: number, name: string, mode = 0o755): Promise<FakeEntry> {
		const bytes = fields(structs.fuse_mkdir_in, { mode });
		return entryOf(await this.ok(opcodes.FUSE_MKDIR, parent, bytes, names(name)));
	}

	async symlink(parent: number, name: string, target: string): Promise<FakeEntry> {
		return entryOf(await this.ok(opcodes.FUSE_SYMLINK, parent, names(name, target)));
	}

	/** O_RDWR unless said otherwise. */
	async create(parent: number, name: string, mode = 0o644, flags = 2): Promise<FakeEntry & { fh: number }> {
		const bytes = fields(structs.fuse_create_in, { mode, flags });
		const answer = await this.ok(opcodes.FUSE_CREATE, parent, bytes, names(name));
		return { ...entryOf(answer), fh: getU64(answer.body, fuse_entry_out.sizeof) };
	}

	async open(nodeid: number, flags = 0): Promise<{ fh: number; flags: number }> {
		const { body } = await this.ok(opcodes.FUSE_OPEN, nodeid, fields(structs.fuse_open_in, { flags }));
		const { fh, open_flags } = structs.fuse_open_out;
		return { fh: getU64(body, fh), flags: body.getUint32(open_flags, true) };
	}

	async opendir(nodeid: number): Promise<number> {
		return getU64((await this.ok(opcodes.FUSE_OPENDIR, nodeid, fields(structs.fuse_open_in, {}))).body, 0);
	}

	async release(nodeid: number, fh: number): Promise<void> {
		await this.ok(opcodes.FUSE_RELEASE, nodeid, fields(structs.fuse_release_in, { fh }));
	}

	async write(nodeid: number, fh: number, offset: number, data: Uint8Array | string, flags = 0): Promise<number> {
		const bytes = typeof data === "string" ? Buffer.from(data) : data;
		const write = fields(structs.fuse_write_in, { fh, offset, size: bytes.length, write_flags: flags });
		const { body } = await this.ok(opcodes.FUSE_WRITE, nodeid, write, bytes);
		return body.getUint32(structs.fuse_write_out.size, true);
	}

	async read(nodeid: number, fh: number, offset: number, size: number): Promise<Buffer> {
		const bytes = fields(structs.fuse_read_in, { fh, offset, size });
		const answer = await this.requestWithRoom(size, opcodes.FUSE_READ, nodeid, bytes);
		if (answer.error !== 0) throw new Error(`FUSE_READ: errno ${answer.error}`);
		return Buffer.from(answer.bytes);
	}

	/** The names of one READDIR of an open directory, and the position after each. */
	async readdirAt(nodeid: number, fh: number, position: bigint): Promise<[name: string, position: bigint][]> {
		const { fuse_dirent, fuse_read_in } = structs;
		const bytes = fields(fuse_read_in, { fh, size: 512 });
		new DataView(bytes.buffer).setBigUint64(fuse_read_in.offset, position, true);
		const answer = await this.ok(opcodes.FUSE_READDIR, nodeid, bytes);
		const found: [string, bigint][] = [];
		for (let at = 0; at < answer.bytes.length; ) {
			const length = answer.body.getUint32(at + fuse_dirent.namelen, true);
			const start = at + fuse_dirent.sizeof;
			const name = Buffer.from(answer.bytes.subarray(start, start + length)).toString();
			found.push([name, answer.body.getBigUint64(at + fuse_dirent.off, true)]);
			at = start + Math.ceil(length / 8) * 8;
		}
		return found;
	}

	/** All entries of a directory but "." and "..", which must be the first ones; `size` bytes at a time. */
	async readdir(nodeid: number, size = 4096, plus = false): Promise<{ name: string; type: number; nodeid: number }[]> {
		const { fuse_dirent } = structs;
		const opened = await this.ok(opcodes.FUSE_OPENDIR, nodeid, fields(structs.fuse_open_in, {}));
		const fh = getU64(opened.body, 0);
		const found: { name: string; type: number; nodeid: number }[] = [];
		const opcode = plus ? opcodes.FUSE_READDIRPLUS : opcodes.FUSE_READDIR;
		let position = 0n;
		for (;;) {
			const bytes = fields(structs.fuse_read_in, { fh, size });
			new DataView(bytes.buffer).setBigUint64(structs.fuse_read_in.offset, position, true);
			const answer = await this.requestWithRoom(size, opcode, nodeid, bytes);
			if (answer.error !== 0) throw new Error(`FUSE_READDIR: errno ${answer.error}`);
			if (answer.bytes.length === 0) break;
			for (let at = 0; at < answer.bytes.length; ) {
				const entry = plus ? getU64(answer.body, at) : 0;
				if (plus) at += fuse_entry_out.sizeof;
				const length = answer.body.getUint32(at + fuse_dirent.namelen, true);
				const start = at + fuse_dirent.sizeof;
				const name = Buffer.from(answer.bytes.subarray(start, start + length)).toString();
				found.push({ name, type: answer.body.getUint32(at + fuse_dirent.type, true), nodeid: entry });
				position = answer.body.getBigUint64(at + fuse_dirent.off, true);
				at = start + Math.ceil(length / 8) * 8;
			}
		}
		await this.ok(opcodes.FUSE_RELEASEDIR, nodeid, fields(structs.fuse_release_in, { fh }));
		const own = found.splice(0, 2).map(({ name }) => name);
		if (own.join() !== ".,..") throw new Error(`a directory begins with ${own.join()}`);
		return found;
	}

	/** A request that must succeed. @throws Error with its errno */
	async ok(opcode: number, nodeid: number, ...parts: Uint8Array[]): Promise<FuseAnswer> {
		const answer = await this.request(opcode, nodeid, ...parts);
		if (answer.error !== 0) throw new Error(`opcode ${opcode}: errno ${answer.error}`);
		return answer;
	}
}

export function entryOf({ body }: FuseAnswer): FakeEntry {
	return { nodeid: getU64(body, fuse_entry_out.nodeid), ...attributesOf(body, fuse_entry_out.attr) };
}

function attributesOf(body: DataView, at: number): FakeAttributes {
	return {
		ino: getU64(body, at + fuse_attr.ino),
		size: getU64(body, at + fuse_attr.size),
		mode: body.getUint32(at + fuse_attr.mode, true),
		nlink: body.getUint32(at + fuse_attr.nlink, true),
		uid: body.getUint32(at + fuse_attr.uid, true),
		gid: body.getUint32(at + fuse_attr.gid, true),
		mtime: Number(body.getBigInt64(at + fuse_attr.mtime, true)),
		mtimensec: body.getUint32(at + fuse_attr.mtimensec, true),
	};
}

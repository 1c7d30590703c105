/*
 * Files of the host as a tar for a container, for cp.
 */
import type { Stats } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { bytePath, type TarType } from "../image/tar/entry.ts";
import { padding, tarEnd, tarHeader } from "../image/tar/write.ts";

export interface PackPlan {
	/** File or directory of the host. */
	path: string;
	/** What it is called in the archive; "." for the content of a directory. */
	name: string;
	/** Owners are kept; all is root's otherwise. */
	archive: boolean;
	/** `path` may be a symbolic link, which is followed. */
	follow: boolean;
	/** Told each file's bytes. */
	onBytes: (bytes: number) => void;
}

const CHUNK_BYTES = 256 * 1024;

/** The archive, in pieces. Sockets are left out. */
export async function* packTar({ path, name, archive, follow, onBytes }: PackPlan): AsyncGenerator<Buffer> {
	const linked = new Map<string, string>();
	async function* member(bytes: Buffer, as: string, found: Stats): AsyncGenerator<Buffer> {
		const type = typeOf(found);
		if (type === undefined) return;
		const id = `${found.dev}:${found.ino}`;
		const first = found.nlink > 1 && type === "file" ? linked.get(id) : undefined;
		if (first === undefined) linked.set(id, as);
		const header = {
			path: as,
			mode: found.mode & 0o7777,
			uid: archive ? found.uid : 0,
			gid: archive ? found.gid : 0,
			mtime: Math.floor(found.mtimeMs / 1000),
			major: type === "char" || type === "block" ? majorOf(found.rdev) : 0,
			minor: type === "char" || type === "block" ? minorOf(found.rdev) : 0,
			xattrs: new Map<string, Buffer>(),
		};
		if (first !== undefined) {
			yield tarHeader({ ...header, type: "link", target: first, size: 0 });
			return;
		}
		const target = type === "symlink" ? (await readlink(bytes, "latin1")).toString() : "";
		const size = type === "file" ? found.size : 0;
		yield tarHeader({ ...header, type, target, size });
		if (type === "file") {
			yield* content(bytes, size);
			onBytes(size);
		}
		if (type !== "directory") return;
		for (const child of (await readdir(bytes, "latin1")).sort()) {
			const below = Buffer.concat([bytes, Buffer.from(`/${child}`, "latin1")]);
			yield* member(below, `${as}/${child}`, await lstat(below));
		}
	}
	const top = Buffer.from(path);
	yield* member(top, bytePath(name), await (follow ? stat(top) : lstat(top)));
	yield tarEnd();
}

/** As long as its header says, whatever becomes of the file meanwhile. */
async function* content(path: Buffer, size: number): AsyncGenerator<Buffer> {
	const file = await open(path, "r");
	try {
		for (let done = 0; done < size; ) {
			const wanted = Math.min(CHUNK_BYTES, size - done);
			const { bytesRead, buffer } = await file.read(Buffer.alloc(wanted), 0, wanted, done);
			yield bytesRead === 0 ? buffer : buffer.subarray(0, bytesRead);
			done += bytesRead === 0 ? wanted : bytesRead;
		}
	} finally {
		await file.close();
	}
	yield padding(size);
}

function typeOf(found: Stats): TarType | undefined {
	if (found.isFile()) return "file";
	if (found.isDirectory()) return "directory";
	if (found.isSymbolicLink()) return "symlink";
	if (found.isFIFO()) return "fifo";
	if (found.isCharacterDevice()) return "char";
	return found.isBlockDevice() ? "block" : undefined;
}

/** <sys/sysmacros.h> */
function majorOf(rdev: number): number {
	return (rdev >>> 8) & 0xfff;
}

function minorOf(rdev: number): number {
	return (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
}

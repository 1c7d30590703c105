/*
 * Unpacks a tar of a container on the host, for cp. The container may be hostile: nothing is written outside the
 * destination. Names have no "..", no symbolic link is followed on the way, a hard link names a file of the same archive,
 * and devices are passed over.
 */
import {
	chmodSync,
	chownSync,
	closeSync,
	constants,
	linkSync,
	lstatSync,
	mkdirSync,
	openSync,
	type Stats,
	symlinkSync,
	unlinkSync,
	utimesSync,
	writeSync,
} from "node:fs";
import { HostError } from "../../base/errors.ts";
import { bytePath, chunks, type FileRange, quoted, shown, type TarEntry } from "../image/tar/entry.ts";
import { readTar } from "../image/tar/read.ts";
import { componentsOf } from "../image/tree.ts";

const ARCHIVE = "the container's archive";
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export interface UnpackPlan {
	/** A directory of the host. */
	directory: string;
	/** The first name of every member, which is left out. */
	base: string;
	/** What stands there instead; its content goes to `directory` itself when missing. */
	name?: string | undefined;
	/** Owners, and setuid and setgid bits, are kept. */
	archive: boolean;
	/** Told what is left out. */
	onSkipped: (path: string, type: string) => void;
}

/** @returns the bytes of all files. @throws HostError ERR_CP; ImageError for an archive that is damaged */
export function unpackTar(range: FileRange, plan: UnpackPlan): number {
	const unpacking = new Unpacking(range, plan);
	for (const entry of readTar(range, ARCHIVE)) unpacking.take(entry);
	return unpacking.finish();
}

class Unpacking {
	readonly #range: FileRange;
	readonly #plan: UnpackPlan;
	readonly #root: string;
	/** Directories that are known to be none of a link's. */
	readonly #directories = new Set<string>([""]);
	/** Paths of files, for hard links. */
	readonly #files = new Set<string>();
	readonly #later: { path: string; entry: TarEntry }[] = [];
	#bytes = 0;

	constructor(range: FileRange, plan: UnpackPlan) {
		this.#range = range;
		this.#plan = plan;
		this.#root = bytePath(plan.directory);
	}

	take(entry: TarEntry): void {
		const path = this.#place(entry.path);
		this.#enter(path.split("/").slice(0, -1));
		switch (entry.type) {
			case "directory":
				this.#directory(path, entry);
				return;
			case "file":
				this.#file(path, entry);
				break;
			case "symlink":
				this.#makeRoom(path);
				symlinkSync(Buffer.from(entry.target, "latin1"), this.#bytesOf(path));
				break;
			case "link": {
				const target = this.#place(entry.target);
				if (!this.#files.has(target)) throw refused(entry.path, `it is a hard link to ${quoted(entry.target)}`);
				this.#makeRoom(path);
				linkSync(this.#bytesOf(target), this.#bytesOf(path));
				break;
			}
			default:
				this.#plan.onSkipped(shown(entry.path), entry.type);
		}
	}

	/** Permissions and times of directories, the inner ones first. */
	finish(): number {
		for (const { path, entry } of this.#later.reverse()) {
			const bytes = this.#bytesOf(path);
			if (!lstatSync(bytes).isDirectory()) throw refused(path, "it was replaced");
			this.#own(bytes, entry);
			utimesSync(bytes, entry.mtime, entry.mtime);
		}
		return this.#bytes;
	}

	/** Of a member, below the root; "" is the root itself. */
	#place(member: string): string {
		const parts = componentsOf(member, ARCHIVE);
		const { base, name } = this.#plan;
		if (base !== "." && parts.shift() !== base) throw refused(member, `it is not below ${quoted(base)}`);
		if (name !== undefined) parts.unshift(bytePath(name));
		return parts.join("/");
	}

	#directory(path: string, entry: TarEntry): void {
		if (path !== "") {
			const found = this.#statOf(path);
			if (found === undefined) mkdirSync(this.#bytesOf(path), 0o700);
			else if (!found.isDirectory()) throw refused(entry.path, "it is a directory, and a file is in its place");
			this.#later.push({ path, entry });
		}
		this.#directories.add(path);
	}

	#file(path: string, entry: TarEntry): void {
		this.#makeRoom(path);
		const bytes = this.#bytesOf(path);
		const fd = openSync(bytes, NEW_FILE, 0o600);
		try {
			for (const chunk of chunks(this.#range, entry.offset, entry.size)) {
				for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
			}
		} finally {
			closeSync(fd);
		}
		this.#own(bytes, entry);
		utimesSync(bytes, entry.mtime, entry.mtime);
		this.#files.add(path);
		this.#bytes += entry.size;
	}

	#own(bytes: Buffer, { uid, gid, mode }: TarEntry): void {
		const { archive } = this.#plan;
		if (archive) chownSync(bytes, uid, gid);
		chmodSync(bytes, archive ? mode : mode & 0o777);
	}

	/** Makes the directories on the way, and looks at those that are there. */
	#enter(parts: readonly string[]): void {
		let path = "";
		for (const part of parts) {
			path = path === "" ? part : `${path}/${part}`;
			if (this.#directories.has(path)) continue;
			const found = this.#statOf(path);
			if (found === undefined) mkdirSync(this.#bytesOf(path), 0o755);
			else if (!found.isDirectory()) throw refused(path, "it is no directory, and files are to be in it");
			this.#directories.add(path);
		}
	}

	/** Removes what a file replaces. */
	#makeRoom(path: string): void {
		const found = path === "" ? undefined : this.#statOf(path);
		if (path === "" || found?.isDirectory() === true) throw refused(path, "a directory is in its place");
		if (found !== undefined) unlinkSync(this.#bytesOf(path));
		this.#files.delete(path);
	}

	#statOf(path: string): Stats | undefined {
		return lstatSync(this.#bytesOf(path), { throwIfNoEntry: false });
	}

	#bytesOf(path: string): Buffer {
		return Buffer.from(path === "" ? this.#root : `${this.#root}/${path}`, "latin1");
	}
}

function refused(path: string, why: string): HostError {
	return new HostError("ERR_CP", `Cannot copy ${quoted(path)} to the host: ${why}`);
}

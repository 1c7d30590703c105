/*
 * Where symbols are found: in the file that a user names, or beside and in a kernel's own file.
 *
 *     vmlinux          its symbol table, that of vmlinux.debug, its kallsyms
 *     vmlinuz-VERSION  System.map-VERSION beside it, the kallsyms of what it unpacks to
 */
import { closeSync, openSync, readSync } from "node:fs";
import { type FileHandle, mkdtemp, open, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { errnoName, explain, ImageError } from "../../base/errors.ts";
import { bzImagePayload, isBzImage, setup_header } from "../../boot/bzimage.ts";
import { Elf64_Ehdr, isElf64 } from "../../boot/elf.ts";
import { decompress } from "../../host/decompress.ts";
import { damaged, elfSymbols } from "./elf.ts";
import { kallsyms } from "./kallsyms.ts";
import { mapSymbols } from "./map.ts";
import { Symbols } from "./symbols.ts";

type SymbolFile = "elf" | "bzImage" | "other";

/** More than a System.map or a kernel with debugging data has that is read as a whole. */
const MAX_FILE_BYTES = 1 << 30;
const HEAD_BYTES = setup_header.end;

/**
 * The symbols of a file: an ELF file, a bzImage, a System.map or the text of /proc/kallsyms. There are none when a kernel
 * has none in it.
 *
 * @throws ImageError ERR_SYMBOLS for a file that cannot be read, is damaged, or is none of these
 */
export async function symbolsIn(path: string): Promise<Symbols> {
	return await reading(path, async (file, kind) => {
		if (kind === "elf")
			return (await elfSymbols(file, path)) ?? kallsyms(await whole(file, path), path) ?? Symbols.none;
		if (kind === "bzImage") return await packedSymbols(file, path);
		return mapSymbols((await whole(file, path)).toString("utf8"), path);
	});
}

/**
 * The symbols of a kernel that is booted from `path`. There are none when nothing is found.
 *
 * @throws ImageError ERR_SYMBOLS for a file that cannot be read or is damaged
 */
export async function kernelSymbols(path: string): Promise<Symbols> {
	return await reading(path, async (file, kind) => {
		if (kind === "elf") {
			return (
				(await elfSymbols(file, path)) ??
				(await beside(`${path}.debug`)) ??
				(await mapBeside(path)) ??
				kallsyms(await whole(file, path), path) ??
				Symbols.none
			);
		}
		if (kind === "bzImage") return (await mapBeside(path)) ?? (await packedSymbols(file, path));
		return Symbols.none;
	});
}

/** Whether it is an ELF file that can be read. */
export function isElfFile(path: string): boolean {
	try {
		const file = openSync(path, "r");
		try {
			const head = Buffer.alloc(Elf64_Ehdr.sizeof);
			return isElf64(head.subarray(0, readSync(file, head, 0, head.length, 0)));
		} finally {
			closeSync(file);
		}
	} catch {
		return false;
	}
}

async function reading<T>(path: string, use: (file: FileHandle, kind: SymbolFile) => Promise<T>): Promise<T> {
	let file: FileHandle | undefined;
	try {
		file = await open(path, "r");
		const head = Buffer.alloc(HEAD_BYTES);
		const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
		const found = head.subarray(0, bytesRead);
		return await use(file, isElf64(found) ? "elf" : isBzImage(found) ? "bzImage" : "other");
	} catch (cause) {
		if (errnoName(cause) === "ERR_SYMBOLS") throw cause;
		throw new ImageError("ERR_SYMBOLS", `Cannot read the symbols of ${path}: ${explain(cause)}`, { cause });
	} finally {
		await file?.close();
	}
}

/** Undefined when it is not there, or has no symbol table. */
async function beside(path: string): Promise<Symbols | undefined> {
	try {
		return await reading(path, (file) => elfSymbols(file, path));
	} catch (error) {
		if (error instanceof ImageError && errnoName(error.cause) === "ENOENT") return undefined;
		throw error;
	}
}

/** That of /boot. Debian's says only where the real one is, and is no reason to complain. */
async function mapBeside(kernel: string): Promise<Symbols | undefined> {
	const real = await realpath(kernel);
	const version = /^(?:vmlinuz|vmlinux|bzImage|kernel)-(.+)$/.exec(basename(real))?.[1];
	if (version === undefined) return undefined;
	return await symbolsIn(join(dirname(real), `System.map-${version}`)).catch(() => undefined);
}

async function packedSymbols(file: FileHandle, path: string): Promise<Symbols> {
	const payload = bzImagePayload(await whole(file, path), path);
	const directory = await mkdtemp(join(tmpdir(), "tsvmm-symbols-"));
	try {
		const image = await decompress(payload, path, directory);
		return kallsyms(Buffer.from(image.buffer, image.byteOffset, image.length), path) ?? Symbols.none;
	} finally {
		await rm(directory, { recursive: true, force: true });
	}
}

async function whole(file: FileHandle, path: string): Promise<Buffer> {
	const { size } = await file.stat();
	if (size > MAX_FILE_BYTES) throw damaged(path, `it has ${size} bytes`);
	return await readFile(file);
}

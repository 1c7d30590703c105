/*
 * Writes a machine as an ELF core file, which gdb opens with the kernel's symbols:
 *
 *     | header | segments | notes: registers | RAM, a sparse part of the file, page by page where it is not zero |
 *
 * Each range of RAM is a segment by its guest-physical address. What the kernel has mapped are more segments, by virtual
 * address, of the same bytes of the file. So `x` in gdb takes both kinds of addresses.
 */
import { type FileHandle, link, lstat, open, rename, rm } from "node:fs/promises";
import { setImmediate as turn } from "node:timers/promises";
import { errnoName, explain, HostError, StateError, TsvmmError } from "../base/errors.ts";
import { PAGE_BYTES } from "../base/page-set.ts";
import { Elf64_Ehdr, Elf64_Phdr } from "../boot/elf.ts";
import { temporaryPath } from "../host/durable-file.ts";
import type { Machine } from "../machine/machine.ts";
import { coreNotes } from "./core-notes.ts";
import { kernelMappings } from "./kernel-mappings.ts";

/** Options of a dump. */
export interface DumpOptions {
	/** Replaces a file that is there. */
	force?: boolean;
	/** Called now and then with the bytes of memory that were looked at, and all of them. */
	onProgress?: ((done: number, total: number) => void) | undefined;
	/** Its abort ends the work with its reason. Then nothing is left. */
	signal?: AbortSignal | undefined;
}

const ELFMAG = 0x464c457f;
const CLASS64_LITTLE_VERSION1 = [2, 1, 1] as const;
const ET_CORE = 4;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** Read, write, execute. */
const PF_RWX = 7;
const CHUNK_BYTES = 1 << 20;
const ZEROES = Buffer.alloc(CHUNK_BYTES);

interface Segment {
	readonly type: number;
	readonly offset: number;
	readonly virtual: bigint;
	readonly physical: number;
	readonly bytes: number;
}

/**
 * Writes a core file that only its owner can read. A machine that runs stands still meanwhile.
 *
 * @throws HostError ERR_DUMP_EXISTS, ERR_DUMP_WRITE such as for a disk that is full; StateError ERR_MACHINE_STATE when the
 *   machine has ended or ends meanwhile; the reason of `options.signal`. Then nothing is left, and the machine goes on
 */
export async function dumpMachine(machine: Machine, path: string, options: DumpOptions = {}): Promise<void> {
	const pauses = machine.state === "running";
	const temporary = temporaryPath(path);
	let putBack: (() => void) | undefined;
	try {
		/* Before minutes of work. */
		if (options.force !== true && (await isThere(path))) throw taken(path);
		await machineStands(machine);
		putBack = machine.debug.port.attached?.lift();
		const file = await open(temporary, "wx", 0o600);
		try {
			await writeCore(file, machine, options);
		} finally {
			await file.close();
		}
		await publish(temporary, path, options.force === true);
	} catch (cause) {
		options.signal?.throwIfAborted();
		if (cause instanceof TsvmmError) throw cause;
		throw new HostError("ERR_DUMP_WRITE", `Cannot write the dump ${path}: ${explain(cause)}`, { cause });
	} finally {
		await rm(temporary, { force: true });
		if (!hasEnded(machine)) {
			putBack?.();
			if (pauses) machine.resume();
		}
	}
}

async function isThere(path: string): Promise<boolean> {
	return (await lstat(path).catch(() => undefined)) !== undefined;
}

function taken(path: string): HostError {
	return new HostError("ERR_DUMP_EXISTS", `Cannot write the dump ${path}: something is there already`, {
		hint: "Choose another path, or add --force",
	});
}

/** Gives the file its name. Unlike a rename, a link never replaces what has come meanwhile. */
async function publish(temporary: string, path: string, replace: boolean): Promise<void> {
	if (!replace) {
		try {
			return await link(temporary, path);
		} catch (error) {
			if (errnoName(error) === "EEXIST") throw taken(path);
			/* A file system without links. */
		}
	}
	await rename(temporary, path);
}

const hasEnded = (machine: Machine) => machine.state === "ended";

async function machineStands(machine: Machine): Promise<void> {
	if (machine.state !== "created") await machine.pause();
	mustLive(machine);
}

function mustLive(machine: Machine): void {
	if (hasEnded(machine)) throw new StateError("ERR_MACHINE_STATE", "Cannot dump the machine: it has ended");
}

async function writeCore(file: FileHandle, machine: Machine, { onProgress, signal }: DumpOptions): Promise<void> {
	const { memory } = machine;
	const { vcpus } = machine.debug;
	const notes = coreNotes(vcpus);
	const mappings = kernelMappings(
		memory,
		vcpus.map((vcpu) => vcpu.getSregs()),
	);
	const count = 1 + memory.windows.length + mappings.length;
	const headBytes = Elf64_Ehdr.sizeof + count * Elf64_Phdr.sizeof;
	const start = Math.ceil((headBytes + notes.length) / PAGE_BYTES) * PAGE_BYTES;
	/** Where each window of RAM is in the file. */
	let end = start;
	const places = memory.windows.map(({ gpa, sizeBytes, bytes }) => {
		const offset = end;
		end += sizeBytes;
		return { gpa, sizeBytes, bytes, offset };
	});
	const offsetOf = (gpa: number) => {
		const place = places.find((one) => gpa >= one.gpa && gpa < one.gpa + one.sizeBytes)!;
		return place.offset + gpa - place.gpa;
	};
	const segments: Segment[] = [
		{ type: PT_NOTE, offset: headBytes, virtual: 0n, physical: 0, bytes: notes.length },
		...places.map(({ gpa, sizeBytes, offset }) => {
			return { type: PT_LOAD, offset, virtual: BigInt(gpa), physical: gpa, bytes: sizeBytes };
		}),
		...mappings.map(({ address, gpa, bytes }) => {
			return { type: PT_LOAD, offset: offsetOf(gpa), virtual: address, physical: gpa, bytes };
		}),
	];
	await file.truncate(end);
	await writeAll(file, Buffer.concat([header(count), ...segments.map(programHeader), notes]), 0);
	for (const { bytes, offset } of places) {
		for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
			signal?.throwIfAborted();
			mustLive(machine);
			await writePages(file, bytes.subarray(at, at + CHUNK_BYTES), offset + at);
			onProgress?.(offset + at - start, end - start);
			await turn();
		}
		/* A window whose memory has gone is empty. */
		mustLive(machine);
	}
}

/** Writes the pages that are not zero. */
async function writePages(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
	const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
	if (chunk.equals(ZEROES.subarray(0, chunk.length))) return;
	const isZero = (at: number) => chunk.subarray(at, at + PAGE_BYTES).equals(ZEROES.subarray(0, PAGE_BYTES));
	for (let at = 0; at < chunk.length; ) {
		let end = at;
		while (end < chunk.length && !isZero(end)) end += PAGE_BYTES;
		if (end > at) await writeAll(file, chunk.subarray(at, end), offset + at);
		at = end + PAGE_BYTES;
	}
}

async function writeAll(file: FileHandle, bytes: Buffer, offset: number): Promise<void> {
	for (let at = 0; at < bytes.length; )
		at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
}

function header(segments: number): Buffer {
	const bytes = Buffer.alloc(Elf64_Ehdr.sizeof);
	bytes.writeUInt32LE(ELFMAG, Elf64_Ehdr.e_ident_magic);
	bytes.set(CLASS64_LITTLE_VERSION1, Elf64_Ehdr.e_ident_class);
	bytes.writeUInt16LE(ET_CORE, Elf64_Ehdr.e_type);
	bytes.writeUInt16LE(EM_X86_64, Elf64_Ehdr.e_machine);
	bytes.writeUInt32LE(1, Elf64_Ehdr.e_version);
	bytes.writeBigUInt64LE(BigInt(Elf64_Ehdr.sizeof), Elf64_Ehdr.e_phoff);
	bytes.writeUInt16LE(Elf64_Ehdr.sizeof, Elf64_Ehdr.e_ehsize);
	bytes.writeUInt16LE(Elf64_Phdr.sizeof, Elf64_Ehdr.e_phentsize);
	bytes.writeUInt16LE(segments, Elf64_Ehdr.e_phnum);
	return bytes;
}

function programHeader({ type, offset, virtual, physical, bytes }: Segment): Buffer {
	const header = Buffer.alloc(Elf64_Phdr.sizeof);
	header.writeUInt32LE(type, Elf64_Phdr.p_type);
	header.writeUInt32LE(type === PT_LOAD ? PF_RWX : 0, Elf64_Phdr.p_flags);
	header.writeBigUInt64LE(BigInt(offset), Elf64_Phdr.p_offset);
	header.writeBigUInt64LE(virtual, Elf64_Phdr.p_vaddr);
	header.writeBigUInt64LE(BigInt(physical), Elf64_Phdr.p_paddr);
	header.writeBigUInt64LE(BigInt(bytes), Elf64_Phdr.p_filesz);
	header.writeBigUInt64LE(BigInt(type === PT_LOAD ? bytes : 0), Elf64_Phdr.p_memsz);
	return header;
}

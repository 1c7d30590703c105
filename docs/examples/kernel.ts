/*
 * A kernel of a few hundred bytes for the other examples. It starts one virtio device, sends it requests, prints the
 * answers, and powers off. A driver mostly stores to registers and memory, so most of this kernel is the `mov`
 * instruction. Compare with virtio 1.2 §3.1.1 (initialization), §2.7 (split virtqueues) and §4.2 (MMIO).
 */
import { writeFileSync } from "node:fs";

/** Where the kernel is loaded and entered (by PVH, so in 32-bit mode without paging). */
const KERNEL = 0x100_0000;
/** The queue's three parts, and room for buffers behind them. */
const [DESC, AVAIL, USED] = [0x200_0000, 0x200_1000, 0x200_2000];
export const BUFFERS = 0x201_0000;
const QUEUE_SIZE = 16;

/** Registers of the machine's first virtio device. */
const DEVICE = 0xd000_0000;
const [DriverFeatures, DriverFeaturesSel, QueueSel, QueueNum, QueueReady] = [0x20, 0x24, 0x30, 0x38, 0x44];
const [QueueNotify, Status, QueueDescLow, QueueDriverLow, QueueDeviceLow] = [0x50, 0x70, 0x80, 0x90, 0xa0];
const [ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK] = [1, 2, 4, 8];
const [VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE] = [1, 2];

/* Ports: the serial console, and ACPI's power-off. */
const [COM1, SLEEP_CONTROL, SLEEP] = [0x3f8, 0x600, 0x34];

const u16 = (value: number) => [value & 0xff, (value >> 8) & 0xff];
const u32 = (value: number) => [...u16(value), ...u16(value >>> 16)];

/** mov dword [address], value */
export const store = (address: number, value: number): number[] => [0xc7, 0x05, ...u32(address), ...u32(value)];
/** mov word [address], value */
const storeU16 = (address: number, value: number) => [0x66, 0xc7, 0x05, ...u32(address), ...u16(value)];
/** again: cmp word [address], value; jne again */
const waitFor = (address: number, value: number) => [0x66, 0x83, 0x3d, ...u32(address), value, 0x75, 0xf6];
/** add byte [address], value */
export const addByte = (address: number, value: number): number[] => [0x80, 0x05, ...u32(address), value];
/** mov edx, COM1; mov esi, address; mov ecx, length; rep outsb */
export const print = (address: number, length: number): number[] =>
	[
		[0xba, ...u32(COM1)],
		[0xbe, ...u32(address)],
		[0xb9, ...u32(length)],
		[0xf3, 0x6e],
	].flat();
/** mov edx, SLEEP_CONTROL; mov al, SLEEP; out dx, al; hlt */
export const powerOff = (): number[] => [0xba, ...u32(SLEEP_CONTROL), 0xb0, SLEEP, 0xee, 0xf4];

/** Puts text into memory, four bytes at a time. */
export function text(address: number, characters: string): number[] {
	const bytes = Buffer.from(characters.padEnd(Math.ceil(characters.length / 4) * 4, "\0"));
	return Array.from({ length: bytes.length / 4 }, (_, i) => store(address + 4 * i, bytes.readInt32LE(4 * i))).flat();
}

/** Starts the device with queue 0, and with VIRTIO_F_VERSION_1 (bit 32) as its only feature. */
export function startDevice(): number[] {
	const registers: [register: number, value: number][] = [
		[Status, ACKNOWLEDGE],
		[Status, ACKNOWLEDGE | DRIVER],
		[DriverFeaturesSel, 1],
		[DriverFeatures, 1],
		[Status, ACKNOWLEDGE | DRIVER | FEATURES_OK],
		[QueueSel, 0],
		[QueueNum, QUEUE_SIZE],
		[QueueDescLow, DESC],
		[QueueDriverLow, AVAIL],
		[QueueDeviceLow, USED],
		[QueueReady, 1],
		[Status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK],
	];
	return registers.flatMap(([register, value]) => store(DEVICE + register, value));
}

/** A part of a request. */
export interface Part {
	address: number;
	lengthBytes: number;
	/** The device writes it; otherwise it reads it. */
	write?: boolean;
}

/** Makes request number `n`, counted from 0, and waits until the device has answered it. */
export function request(n: number, parts: readonly Part[]): number[] {
	const descriptors = parts.flatMap(({ address, lengthBytes, write }, i) => {
		const last = i === parts.length - 1;
		const at = DESC + 16 * i;
		const flags = (write ? VIRTQ_DESC_F_WRITE : 0) | (last ? 0 : VIRTQ_DESC_F_NEXT);
		return [
			...store(at, address),
			...store(at + 8, lengthBytes),
			...storeU16(at + 12, flags),
			...storeU16(at + 14, i + 1),
		];
	});
	const makeAvailable = [...storeU16(AVAIL + 4 + 2 * (n % QUEUE_SIZE), 0), ...storeU16(AVAIL + 2, n + 1)];
	return [...descriptors, ...makeAvailable, ...store(DEVICE + QueueNotify, 0), ...waitFor(USED + 2, n + 1)];
}

/** Writes the instructions as an ELF file that has one segment and a note that names its PVH entry. */
export function writeKernel(path: string, ...instructions: readonly number[][]): void {
	const code = Buffer.from(instructions.flat());
	const [codeAt, noteAt, noteBytes] = [0x1000, 0xb0, 20];
	const file = Buffer.alloc(codeAt + code.length);
	file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); /* ELFCLASS64, ELFDATA2LSB, EV_CURRENT */
	file.writeUInt16LE(2, 16); /* ET_EXEC */
	file.writeUInt16LE(62, 18); /* EM_X86_64 */
	file.writeBigUInt64LE(64n, 32); /* e_phoff */
	file.writeUInt16LE(56, 54); /* e_phentsize */
	file.writeUInt16LE(2, 56); /* e_phnum */
	const segment = (at: number, type: number, offset: number, address: number, bytes: number) => {
		file.writeUInt32LE(type, at);
		file.writeBigUInt64LE(BigInt(offset), at + 8);
		file.writeBigUInt64LE(BigInt(address), at + 24);
		file.writeBigUInt64LE(BigInt(bytes), at + 32);
		file.writeBigUInt64LE(BigInt(bytes), at + 40);
	};
	segment(64, 1, codeAt, KERNEL, code.length); /* PT_LOAD */
	segment(120, 4, noteAt, 0, noteBytes); /* PT_NOTE */
	file.writeUInt32LE(4, noteAt); /* bytes of the name */
	file.writeUInt32LE(4, noteAt + 4); /* bytes of the address */
	file.writeUInt32LE(18, noteAt + 8); /* XEN_ELFNOTE_PHYS32_ENTRY */
	file.write("Xen\0", noteAt + 12);
	file.writeUInt32LE(KERNEL, noteAt + 16);
	code.copy(file, codeAt);
	writeFileSync(path, file);
}

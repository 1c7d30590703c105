/*
 * Lab 5, solved: loads a kernel, an ELF vmlinux or a bzImage, for its 64-bit entry.
 */

export interface LoadedKernel {
	/** Where the processor begins. */
	readonly entry: number;
	/** Address of struct boot_params, for RSI. */
	readonly bootParams: number;
}

const BOOT_PARAMS = 0x7000;
const CMDLINE = 0x2_0000;
const KERNEL = 0x10_0000;

const PT_LOAD = 1;

export function loadKernel(file: Uint8Array, ram: Uint8Array, cmdline: string): LoadedKernel {
	const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
	ram.fill(0, BOOT_PARAMS, BOOT_PARAMS + 4096);
	if (bytes.length >= 64 && bytes.readUInt32BE(0) === 0x7f454c46) {
		const entry = loadElf(bytes, ram);
		writeBootParams(ram, cmdline);
		return { entry, bootParams: BOOT_PARAMS };
	}
	if (bytes.length >= 0x268 && bytes.toString("latin1", 0x202, 0x206) === "HdrS") {
		const entry = loadBzImage(bytes, ram);
		writeBootParams(ram, cmdline);
		return { entry, bootParams: BOOT_PARAMS };
	}
	throw new Error("neither an ELF file nor a bzImage");
}

/** @returns the entry */
function loadElf(file: Buffer, ram: Uint8Array): number {
	const headers = Number(file.readBigUInt64LE(32));
	const headerBytes = file.readUInt16LE(54);
	const count = file.readUInt16LE(56);
	if (headerBytes < 56 || headers + count * headerBytes > file.length)
		throw new Error("its program headers are cut off");
	for (let i = 0; i < count; i++) {
		const at = headers + i * headerBytes;
		if (file.readUInt32LE(at) !== PT_LOAD) continue;
		const offset = Number(file.readBigUInt64LE(at + 8));
		const address = Number(file.readBigUInt64LE(at + 24));
		const fileBytes = Number(file.readBigUInt64LE(at + 32));
		const memoryBytes = Number(file.readBigUInt64LE(at + 40));
		if (offset + fileBytes > file.length) throw new Error(`segment ${i} is cut off`);
		if (fileBytes > memoryBytes || address + memoryBytes > ram.length)
			throw new Error(`segment ${i} is beyond the RAM`);
		ram.fill(0, address, address + memoryBytes);
		ram.set(file.subarray(offset, offset + fileBytes), address);
	}
	return Number(file.readBigUInt64LE(24));
}

/** @returns the 64-bit entry */
function loadBzImage(file: Buffer, ram: Uint8Array): number {
	if ((file.readUInt16LE(0x236) & 1) === 0) throw new Error("this bzImage has no 64-bit entry");
	const setupSectors = file[0x1f1]! || 4;
	const kernel = file.subarray(512 * (1 + setupSectors));
	if (kernel.length === 0 || KERNEL + kernel.length > ram.length) throw new Error("this bzImage does not fit");
	ram.set(kernel, KERNEL);
	const headerEnd = 0x202 + file[0x201]!;
	ram.set(file.subarray(0x1f1, headerEnd), BOOT_PARAMS + 0x1f1);
	return KERNEL + 0x200;
}

/** What a boot loader tells the kernel: Documentation/arch/x86/zero-page.rst. */
function writeBootParams(ram: Uint8Array, cmdline: string): void {
	ram.set(Buffer.from(`${cmdline}\0`), CMDLINE);
	const page = new DataView(ram.buffer, ram.byteOffset + BOOT_PARAMS, 4096);
	page.setUint8(0x210, 0xff); /* type_of_loader: none that has a number */
	page.setUint32(0x228, CMDLINE, true); /* cmd_line_ptr */
	const usable: [start: number, length: number][] = [
		[0, 0xa_0000],
		[KERNEL, ram.length - KERNEL],
	];
	page.setUint8(0x1e8, usable.length); /* e820_entries */
	usable.forEach(([start, length], i) => {
		const at = 0x2d0 + 20 * i;
		page.setBigUint64(at, BigInt(start), true);
		page.setBigUint64(at + 8, BigInt(length), true);
		page.setUint32(at + 16, 1, true); /* usable RAM */
	});
}

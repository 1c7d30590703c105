/*
 * Describes a file that was given as a kernel but cannot be loaded, for the error message. It looks only at the first
 * bytes.
 */
import { compressionOf } from "../base/compression.ts";

/** What a file seems to be, and what to do about it. */
export interface DetectedFormat {
	/** Continues "found ...": "gzip data". */
	readonly found: string;
	readonly hint?: string;
	/** A kernel, but of another architecture. */
	readonly otherArchitecture?: boolean;
}

const COMPRESSED = "Decompress it first, or get a ready kernel: tsvmm kernel fetch";
const MACHINES: Record<number, string> = {
	3: "x86 (32-bit)",
	8: "MIPS",
	20: "PowerPC",
	21: "64-bit PowerPC",
	22: "S/390",
	40: "32-bit Arm",
	62: "x86-64",
	183: "aarch64",
	243: "RISC-V",
	258: "LoongArch",
};

/* Offset, bytes (as Latin-1) and meaning, most specific first. */
const MAGICS: readonly [number, string, DetectedFormat][] = [
	[0x38, "ARM\x64", { found: "a Linux Image for aarch64", otherArchitecture: true }],
	[0x38, "RSC\x05", { found: "a Linux Image for RISC-V", otherArchitecture: true }],
	[0x24, "\x18\x28\x6f\x01", { found: "a Linux zImage for 32-bit Arm", otherArchitecture: true }],
	[0, "\x27\x05\x19\x56", { found: "a U-Boot uImage" }],
	[0, "\xd0\x0d\xfe\xed", { found: "a device tree blob or FIT image" }],
	[0, "MZ", { found: "a PE executable (EFI program)" }],
	[0, "07070", { found: "a cpio archive", hint: "Give an initramfs as --initrd, not as --kernel" }],
	[0, "!<arch>\n", { found: "an ar archive or Debian package", hint: "Unpack the package and take its boot/vmlinuz" }],
	[257, "ustar", { found: "a tar archive" }],
	[0, "hsqs", { found: "a squashfs image", hint: "Give a file system as --disk, not as --kernel" }],
	[0, "QFI\xfb", { found: "a qcow2 disk image", hint: "Give it as --disk, not as --kernel" }],
	[0, "#!", { found: "a script" }],
	[0x1fe, "\x55\xaa", { found: "a boot sector or disk image" }],
];

/** Describes the file that starts with `head` (its first 512 bytes or more, or all of a shorter file). */
export function identify(head: Buffer): DetectedFormat {
	if (head.length === 0) return { found: "an empty file" };
	if (head.toString("latin1", 0, 4) === "\x7fELF") return identifyElf(head);
	if (head.every((byte) => byte === 0)) return { found: "only zero bytes" };
	const compression = compressionOf(head);
	if (compression !== undefined) return { found: `${compression} data`, hint: COMPRESSED };
	for (const [offset, magic, format] of MAGICS) {
		if (head.toString("latin1", offset, offset + magic.length) === magic) return format;
	}
	if (head.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127))) {
		return { found: "text" };
	}
	return { found: `unknown data starting with ${head.toString("hex", 0, 8)}` };
}

function identifyElf(head: Buffer): DetectedFormat {
	if (head.length < 20) return { found: "an ELF file cut off in its header" };
	const machine = head[5] === 2 ? head.readUInt16BE(18) : head.readUInt16LE(18);
	const name = MACHINES[machine] ?? `machine ${machine}`;
	if (machine !== 62) return { found: `ELF for ${name}`, otherArchitecture: true };
	if (head[4] !== 2) return { found: "a 32-bit ELF for x86-64 (x32)", otherArchitecture: true };
	const type = head.readUInt16LE(16);
	if (type === 1) return { found: "an ELF object file (a kernel module?)" };
	if (type === 3) return { found: "an ELF shared library or position-independent program" };
	if (type === 4) return { found: "an ELF core dump" };
	return { found: "ELF for x86-64 that is not a kernel" };
}

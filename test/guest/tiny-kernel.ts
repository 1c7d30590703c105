/*
 * Kernels of a few instructions for Machine: they print on the serial port and end in every way that a guest can.
 * They are entered by PVH in 32-bit protected mode at BASE.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { elfImage } from "../boot/images.ts";

export const BASE = 0x1000000;
/** A counter that the guest may increment: clear of the kernel. */
export const COUNTER = BASE + 0x800000;

export const outb = (port: number, value: number) => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
export const POWER_OFF = outb(0x600, 0x34);
export const RESET = outb(0x602, 1);
export const KEYBOARD_RESET = outb(0x64, 0xfe);
/** Loads a bad selector: #GP, and there is no IDT to handle it or what follows. */
export const TRIPLE_FAULT = [0xb8, 0xff, 0xff, 0, 0, 0x8e, 0xd8];
export const SPIN = [0xeb, 0xfe];
/** incl [COUNTER]; jmp back */
export const COUNT = [0xff, 0x05, 0, 0, 0x80, 0x01, 0xeb, 0xf8];
/** mov dx, 0x60; in al, dx; incl [COUNTER]; jmp back to the in: an exit per turn that TypeScript answers. */
export const POLL = [0x66, 0xba, 0x60, 0x00, 0xec, 0xff, 0x05, 0, 0, 0x80, 0x01, 0xeb, 0xf7];
/** mov dx, 0x3f8; mov esi, BASE; mov ecx, 4096; rep outsb; jmp back */
export const FLOOD = [0x66, 0xba, 0xf8, 0x03, 0xbe, 0, 0, 0, 1, 0xb9, 0, 0x10, 0, 0, 0xf3, 0x6e, 0xeb, 0xee];

/** mov al, 'a'; out dx, al; inc al; mov ecx, 10000; loop $; cmp al, 'z' + 1; jne to the out: a letter every few milliseconds. */
export const ALPHABET = [0xb0, 0x61, 0xee, 0xfe, 0xc0, 0xb9, 0x10, 0x27, 0, 0, 0xe2, 0xfe, 0x3c, 0x7b, 0x75, 0xf2];

/** mov al, 'a'; cmp al, [COUNTER]; jae back; out dx, al; inc al; cmp al, 'z' + 1; jne back: letters below the one that is there. */
export const LETTERS_BELOW = [
	...[0xb0, 0x61, 0x3a, 0x05, 0, 0, 0x80, 0x01, 0x73, 0xf8],
	...[0xee, 0xfe, 0xc0, 0x3c, 0x7b, 0x75, 0xf1],
];

/** Kernel files in a temporary directory of their own. */
export class TinyKernels {
	readonly directory = mkdtempSync(join(tmpdir(), "tsvmm-kernel-"));
	#count = 0;

	/** 32-bit code that prints `text` on COM1, then runs `ending`. Returns the file's path. */
	write(text: string, ending: readonly number[]): string {
		const code = [0xbe, 0, 0, 0, 0, 0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8];
		code.push(...ending, 0xf4, 0xeb, 0xfd);
		const image = Buffer.concat([Buffer.from(code), Buffer.from(`${text}\0`)]);
		image.writeUInt32LE(BASE + code.length, 1);
		const path = join(this.directory, `kernel${this.#count++}`);
		writeFileSync(path, elfImage({ paddr: BASE, code: image, pvhEntry: BASE }));
		return path;
	}

	/** Where the first instruction of `ending` is. */
	static readonly ENDING = BASE + 17;

	remove(): void {
		rmSync(this.directory, { recursive: true });
	}
}

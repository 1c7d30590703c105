/*
 * Guests of a few instructions that the checks let run, in the machine code of 16-bit real mode. They are loaded at
 * CODE_ADDRESS.
 */

/** Where guests of real mode begin. Their code segment is 0. */
export const CODE_ADDRESS = 0x1000;

const low = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];

/** mov dx, port */
export const movDx = (port: number): number[] => [0xba, ...low(port)];
/** mov ax, value */
export const movAx = (value: number): number[] => [0xb8, ...low(value)];
/** mov al, value */
export const movAl = (value: number): number[] => [0xb0, value];
/** out dx, al; out dx, ax; in al, dx; in ax, dx */
export const OUT_AL = [0xee];
export const OUT_AX = [0xef];
export const IN_AL = [0xec];
export const IN_AX = [0xed];
export const HLT = [0xf4];

/** mov dx, port; mov al, value; out dx, al */
export const outb = (port: number, value: number): number[] => [...movDx(port), ...movAl(value), ...OUT_AL];

/** Code, then a text, which begins at the address that `code` gets. */
export function withText(code: (textAt: number) => number[], text: string): Uint8Array {
	const { length } = code(0);
	return Uint8Array.from([...code(CODE_ADDRESS + length), ...Buffer.from(text, "latin1"), 0]);
}

/** mov si, text; mov cx, length; mov dx, port; rep outsb; hlt */
export const repOutsb = (port: number, text: string): Uint8Array =>
	withText((at) => [0xbe, ...low(at), 0xb9, ...low(text.length), ...movDx(port), 0xf3, 0x6e, ...HLT], text);

/** mov [address], al; hlt: a write where no RAM is. */
export const storeAl = (address: number): Uint8Array => Uint8Array.from([0xa2, ...low(address), ...HLT]);

const LSR = 0x3fd;
const THR = 0x3f8;

/**
 * A driver of a serial port that polls: for each character it waits until the line status says that the transmitter is
 * empty (bit 5). Then it waits for one byte of input (bit 0), sends it back, and halts.
 */
export const serialDriver = (text: string): Uint8Array =>
	withText(
		(at) => [
			...[0xbe, ...low(at)] /* mov si, text */,
			...movDx(LSR) /* next: */,
			...[...IN_AL, 0xa8, 0x20, 0x74, 0xfb] /* in al, dx; test al, 0x20; jz in */,
			...movDx(THR),
			...[0xac, 0x84, 0xc0, 0x74, 0x03] /* lodsb; test al, al; jz input */,
			...[...OUT_AL, 0xeb, 0xed] /* out dx, al; jmp next */,
			...movDx(LSR) /* input: */,
			...[...IN_AL, 0xa8, 0x01, 0x74, 0xfb],
			...[...movDx(THR), ...IN_AL, ...OUT_AL, ...HLT],
		],
		text,
	);

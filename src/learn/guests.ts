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

/** Reads `length` bytes from port `from` into memory by rep insb, and writes them to port `to` by rep outsb. */
export const repInsb = (from: number, length: number, to: number): Uint8Array =>
	Uint8Array.from([
		...[0xbf, ...low(BUFFER), 0xb9, ...low(length), ...movDx(from), 0xf3, 0x6c] /* mov di, BUFFER; mov cx, length */,
		...[0xbe, ...low(BUFFER), 0xb9, ...low(length), ...movDx(to), 0xf3, 0x6e] /* mov si, BUFFER; mov cx, length */,
		...HLT,
	]);
const BUFFER = 0x2000;

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

/**
 * A 64-bit guest: writes to port 0x510 the upper half of a 64-bit number, that of its own address, and what it reads at
 * virtual 0x200000; then it halts.
 */
// biome-ignore format: one instruction per line
export const LONG_MODE_GUEST = Uint8Array.from([
	0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* mov rax, 0x1122334455667788 */
	0x48, 0xc1, 0xe8, 0x20,                                     /* shr rax, 32 */
	0x66, 0xba, 0x10, 0x05,                                     /* mov dx, 0x510 */
	0xef,                                                       /* out dx, eax */
	0x48, 0x8d, 0x05, 0x00, 0x00, 0x00, 0x00,                   /* lea rax, [rip] */
	0x48, 0xc1, 0xe8, 0x20,                                     /* shr rax, 32 */
	0xef,                                                       /* out dx, eax */
	0x8b, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00,                   /* mov eax, [0x200000] */
	0xef,                                                       /* out dx, eax */
	0xf4,                                                       /* hlt */
]);

/** A 64-bit kernel: prints on port 0x3f8 the command line that the boot parameters at RSI name, and halts. */
// biome-ignore format: one instruction per line
export const CMDLINE_KERNEL = Uint8Array.from([
	0x8b, 0x86, 0x28, 0x02, 0x00, 0x00, /* mov eax, [rsi + 0x228] */
	0x89, 0xc3,                         /* mov ebx, eax */
	0x66, 0xba, 0xf8, 0x03,             /* mov dx, 0x3f8 */
	0x8a, 0x03,                         /* next: mov al, [rbx] */
	0x84, 0xc0,                         /* test al, al */
	0x74, 0x06,                         /* jz end */
	0xee,                               /* out dx, al */
	0x48, 0xff, 0xc3,                   /* inc rbx */
	0xeb, 0xf4,                         /* jmp next */
	0xf4,                               /* end: hlt */
]);

const COUNTER = 0x6000;

/**
 * Writes 2 bytes to `port` and sleeps until an interrupt of the 8259's `line` wakes it, `times` times. Then it writes to
 * port 0x3f8 how many interrupts its handler has counted.
 */
export function doorbellGuest(port: number, line: number, times: number): Uint8Array {
	const vector = 4 * (0x20 + line);
	const outImmediate = (address: number, value: number) => [...movAl(value), 0xe6, address];
	const code = (handler: number) => [
		...[0xbc, 0x00, 0x70] /* mov sp, 0x7000 */,
		...[0xc7, 0x06, ...low(vector), ...low(handler)] /* mov word [vector], handler */,
		...[0xc7, 0x06, ...low(vector + 2), 0, 0] /* its segment is 0 */,
		/* The first 8259: vectors from 0x20, and only `line` is not masked. */
		...outImmediate(0x20, 0x11),
		...outImmediate(0x21, 0x20),
		...outImmediate(0x21, 0x04),
		...outImmediate(0x21, 0x01),
		...outImmediate(0x21, 0xff & ~(1 << line)),
		...[0xb9, ...low(times)] /* mov cx, times */,
		/* cli, so that the interrupt comes when it sleeps, not before. */
		...[0xfa, ...movDx(port), ...movAx(0), ...OUT_AX, 0xfb, 0xf4, 0xe2, 0xf4] /* next: out, sti, hlt, loop next */,
		...[0xa0, ...low(COUNTER), ...movDx(0x3f8), ...OUT_AL, 0xfa, ...HLT],
	];
	const { length } = code(0);
	return Uint8Array.from([
		...code(CODE_ADDRESS + length),
		...[0xfe, 0x06, ...low(COUNTER)] /* handler: inc byte [COUNTER] */,
		...[0x50, ...outImmediate(0x20, 0x20), 0x58, 0xcf] /* push ax; end of interrupt; pop ax; iret */,
	]);
}

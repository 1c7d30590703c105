/* Driven as Linux's 8250 driver does it (drivers/tty/serial/8250/8250_port.c). */
import { describe, expect, it } from "vitest";
import { Serial } from "../../src/devices/serial.ts";

const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const FCR = IIR;

function port() {
	let level = 0;
	let edges = 0;
	let drained = 0;
	const output: Buffer[] = [];
	const serial = new Serial({
		line: {
			raise: () => {
				expect(level).toBe(0);
				level = 1;
				edges++;
			},
			lower: () => {
				expect(level).toBe(1);
				level = 0;
			},
		},
		onOutput: (bytes) => output.push(Buffer.from(bytes)),
		onDrain: () => drained++,
	});
	return {
		serial,
		output,
		inb: (offset: number) => serial.read(offset, 1),
		outb: (offset: number, value: number) => serial.write(offset, 1, value),
		level: () => level,
		edges: () => edges,
		drained: () => drained,
		written: () => Buffer.concat(output).toString("latin1"),
	};
}

describe("Serial", () => {
	it("Serial passes autoconfig as a 16550A and nothing better", () => {
		const { inb, outb } = port();
		outb(IER, 0);
		expect(inb(IER) & 0x0f).toBe(0);
		outb(IER, 0x0f);
		expect(inb(IER) & 0x0f).toBe(0x0f);
		outb(IER, 0);
		outb(SCR, 0x5a);
		expect(inb(SCR)).toBe(0x5a);
		const mcr = inb(MCR);
		outb(MCR, 0x10 | 0x0a);
		expect(inb(MSR) & 0xf0).toBe(0x90);
		outb(MCR, mcr);
		outb(LCR, 0xbf);
		outb(FCR, 0);
		outb(LCR, 0);
		outb(FCR, 1);
		expect(inb(IIR) >> 6).toBe(3);
		/* EFR, where a 16650 or 16850 would answer 0. */
		outb(LCR, 0x80);
		expect(inb(IIR)).not.toBe(0);
		outb(LCR, 0xbf);
		expect(inb(IIR)).not.toBe(0);
		/* A 16750 shows its 64-byte FIFO. */
		outb(LCR, 0x80);
		outb(FCR, 0x21);
		expect(inb(IIR) >> 5).toBe(6);
		outb(LCR, 0);
		/* An XScale UART has a unit enable bit. */
		outb(IER, 0x40);
		expect(inb(IER) & 0x40).toBe(0);
	});

	it("Serial raises the transmitter interrupt each time it is enabled, as THRE_test wants", () => {
		const { inb, outb, level } = port();
		for (let i = 0; i < 2; i++) {
			outb(IER, 2);
			expect(level()).toBe(1);
			expect(inb(IIR)).toBe(2);
			expect(level()).toBe(0);
			expect(inb(IIR)).toBe(1);
			outb(IER, 0);
		}
	});

	it("Serial makes one new edge per burst of output after the last was acknowledged", () => {
		const { inb, outb, edges, level } = port();
		outb(IER, 2);
		expect(inb(IIR)).toBe(2);
		const before = edges();
		for (const byte of Buffer.from("sixteen bytes...")) outb(DATA, byte);
		expect(edges()).toBe(before + 1);
		expect(inb(IIR)).toBe(2);
		outb(IER, 0);
		expect(level()).toBe(0);
	});

	it("Serial hands over what one turn wrote as one batch", async () => {
		const { outb, output, written } = port();
		for (const byte of Buffer.from("hello\n")) outb(DATA, byte);
		expect(output).toHaveLength(0);
		await Promise.resolve();
		expect(output).toHaveLength(1);
		expect(written()).toBe("hello\n");
	});

	it("Serial loses no byte of a long batch, and flush hands the rest over at once", () => {
		const { serial, outb, written } = port();
		for (let i = 0; i < 10000; i++) outb(DATA, i);
		serial.flush();
		expect(written()).toHaveLength(10000);
		expect(written().charCodeAt(9999)).toBe(9999 & 0xff);
	});

	it("Serial takes writes to offset 0 as the divisor while DLAB is set", () => {
		const { serial, inb, outb, output } = port();
		outb(LCR, 0x83);
		outb(DATA, 0x01);
		outb(IER, 0x02);
		expect([inb(DATA), inb(IER)]).toEqual([1, 2]);
		outb(LCR, 0x03);
		serial.flush();
		expect(output).toHaveLength(0);
		expect(inb(IER)).toBe(0);
	});

	it("Serial interrupts for input, shows it in LSR and its shadow, and falls silent when it was read", () => {
		const { serial, inb, outb, level } = port();
		outb(FCR, 0x81);
		outb(IER, 1);
		serial.input(Buffer.from("ab"));
		expect(level()).toBe(1);
		expect(inb(IIR)).toBe(0xcc);
		expect(inb(LSR)).toBe(0x61);
		expect(serial.lsrWord[0]).toBe(0x61);
		expect(String.fromCharCode(inb(DATA), inb(DATA))).toBe("ab");
		expect(level()).toBe(0);
		expect(inb(LSR)).toBe(0x60);
		expect(serial.lsrWord[0]).toBe(0x60);
		serial.input(Buffer.from("12345678"));
		expect(inb(IIR)).toBe(0xc4);
	});

	it("Serial keeps input that comes before the driver listens, through all of startup", () => {
		const { serial, inb, outb, level } = port();
		serial.input(Buffer.from("echo hi\n"));
		outb(FCR, 1);
		outb(FCR, 7);
		outb(FCR, 0);
		for (const register of [LSR, DATA, IIR, MSR]) inb(register);
		expect([inb(LSR), level()]).toEqual([0x60, 0]);
		outb(FCR, 0x81);
		outb(IER, 5);
		expect(level()).toBe(1);
		let line = "";
		while ((inb(LSR) & 1) !== 0) line += String.fromCharCode(inb(DATA));
		expect(line).toBe("echo hi\n");
	});

	it("Serial asks its feeder to pause and to go on, and loses nothing", () => {
		const { serial, inb, outb, drained } = port();
		outb(IER, 1);
		const sent = Buffer.from(Array.from({ length: 9000 }, (_, i) => (i * 31) & 0xff));
		expect(serial.input(sent.subarray(0, 4000))).toBe(true);
		expect(serial.input(sent.subarray(4000))).toBe(false);
		const got: number[] = [];
		while ((inb(LSR) & 1) !== 0) got.push(inb(DATA));
		expect(Buffer.from(got).equals(sent)).toBe(true);
		expect(drained()).toBe(1);
	});

	it("Serial in loopback receives what it sends and lets nothing out", () => {
		const { serial, inb, outb, output } = port();
		serial.input(Buffer.from("x"));
		outb(MCR, 0x10);
		outb(DATA, 1);
		outb(DATA, 2);
		expect([inb(DATA), inb(DATA), inb(LSR)]).toEqual([1, 2, 0x60]);
		for (let i = 0; i < 40; i++) outb(DATA, i);
		let count = 0;
		while ((inb(LSR) & 1) !== 0 && count < 50) count += inb(DATA) >= 0 ? 1 : 0;
		expect(count).toBe(16);
		outb(MCR, 0);
		serial.flush();
		expect(output).toHaveLength(0);
		expect(serial.inputBytes).toBe(1);
	});

	it("Serial survives every register, size and value", () => {
		const { serial } = port();
		for (let offset = 0; offset < 9; offset++) {
			for (const size of [1, 2, 4]) {
				for (const value of [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0xffffffff]) {
					serial.write(offset, size, value);
					for (let from = 0; from < 9; from++) {
						const read = serial.read(from, size);
						expect(read >= 0 && read <= 0xff).toBe(true);
					}
				}
			}
		}
	});
});

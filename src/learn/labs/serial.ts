/*
 * The check of lab 3: the program exports `SerialPort`, a 16550 as a driver sees it. The check reads and writes its
 * registers in the order of Linux's driver. Where there is KVM, a guest with a driver of its own prints through it.
 */
import { existsSync } from "node:fs";
import type { Attempt } from "../attempt.ts";
import { runRealMode } from "../bare-machine.ts";
import { serialDriver } from "../guests.ts";
import type { Lab } from "../lab.ts";
import { count, hex, quote, type Report } from "../report.ts";

/** What the program exports. */
interface SerialPort {
	read(offset: number): number;
	write(offset: number, value: number): void;
	receive(byte: number): void;
}
type SerialPortClass = new (output: (byte: number) => void, interrupt: (level: boolean) => void) => SerialPort;

const [DATA, IER, IIR, LCR, LSR, SCR] = [0, 1, 2, 3, 5, 7];
const BASE = 0x3f8;

export const serialLab: Lab = {
	number: 3,
	name: "serial",
	title: "a serial port",
	needsKvm: false,
	async check(attempt) {
		const type = await attempt.exported<SerialPortClass>("SerialPort", "class");
		await attempt.call("SerialPort", async () => {
			checkOutput(new Bench(attempt, type));
			checkDivisor(new Bench(attempt, type));
			checkInput(new Bench(attempt, type));
			checkInterrupts(new Bench(attempt, type));
		});
		await checkGuest(attempt, type);
	},
};

/** A port on the check's bench: its output, and the level of its interrupt line. */
class Bench {
	readonly report: Report;
	readonly port: SerialPort;
	output = "";
	level = false;

	constructor({ report }: Attempt, type: SerialPortClass) {
		this.report = report;
		this.port = new type(
			(byte) => {
				if (typeof byte !== "number") {
					this.report.fail(
						`output was called with ${quote(String(byte))}, no number`,
						"Pass the byte on as it was written",
					);
				}
				this.output += String.fromCharCode(byte);
			},
			(level) => {
				this.level = level;
			},
		);
	}
	/** What a register reads, as a byte. */
	read(offset: number): number {
		const value = this.port.read(offset);
		if (Number.isInteger(value) && value >= 0 && value <= 0xff) return value;
		this.report.fail(
			`read(${offset}) returned ${value}: a register is a byte`,
			"Return a number from 0 to 255 for every offset from 0 to 7",
		);
	}
	/** "high" or "low". */
	get line(): string {
		return this.level ? "high" : "low";
	}
	send(text: string): void {
		for (const byte of Buffer.from(text)) this.port.write(DATA, byte);
	}
}

function checkOutput(bench: Bench): void {
	const { report, port } = bench;
	port.write(SCR, 0xa5);
	report.expect(
		bench.read(SCR) === 0xa5,
		"SCR (offset 7) keeps what was written: a driver sees that a port is there",
		`SCR (offset 7) reads ${hex(bench.read(SCR))} after 0xa5 was written: Linux takes the port for missing`,
		"Keep the byte",
	);
	const status = bench.read(LSR);
	report.must(
		(status & 0x60) === 0x60,
		"LSR (offset 5) says that the transmitter is empty: THRE and TEMT, 0x60",
		`LSR (offset 5) reads ${hex(status)}: a driver waits for ever for THRE (0x20) and TEMT (0x40)`,
		"Return 0x60: your transmitter is always empty, because output is passed on at once",
	);
	bench.send("hello");
	report.must(
		bench.output === "hello",
		"bytes written to offset 0 come out in order",
		`${quote("hello")} was written to offset 0, and ${quote(bench.output)} came out`,
		"Call output for each byte",
	);
	report.expect(
		bench.read(LSR) % 2 === 0,
		"LSR's DR (bit 0) is clear: there is no input",
		"LSR's DR (bit 0) is set, and there is no input: a driver would read bytes that nobody sent",
	);
}

/** Linux sets the speed: 115200 baud has divisor 1. */
function checkDivisor(bench: Bench): void {
	const { report, port } = bench;
	port.write(LCR, 0x83);
	port.write(DATA, 0x01);
	port.write(IER, 0x00);
	const divisor = bench.read(DATA) | (bench.read(IER) << 8);
	report.expect(
		bench.output === "",
		"with LCR's DLAB set, a write to offset 0 is the divisor and no output",
		`with LCR's DLAB (0x80) set, 0x01 was written to offset 0 as the divisor, and it came out as ${quote(bench.output)}`,
		"Look at bit 7 of LCR (offset 3) in read and write of offsets 0 and 1",
	);
	report.expect(
		divisor === 1,
		"the divisor reads back",
		`divisor 1 was written, and ${divisor} was read`,
		"Keep two more bytes, for offsets 0 and 1 with DLAB",
	);
	port.write(LCR, 0x03);
	bench.output = "";
	bench.send("x");
	report.expect(
		bench.output === "x" && bench.read(LCR) === 3,
		"with DLAB clear again, offset 0 is output",
		`with DLAB clear again, "x" was written to offset 0, ${quote(bench.output)} came out, and LCR reads ${hex(bench.read(LCR))}`,
		"Keep what was written to LCR, and look at it at each access",
	);
}

function checkInput(bench: Bench): void {
	const { report, port } = bench;
	port.receive(0x61);
	port.receive(0x62);
	report.must(
		bench.read(LSR) === 0x61,
		"after receive, LSR has DR: 0x61",
		`after receive, LSR reads ${hex(bench.read(LSR))}, 0x61 was expected (DR, THRE, TEMT)`,
		"Set bit 0 of LSR as long as there is input",
	);
	const text = String.fromCharCode(bench.read(DATA), bench.read(DATA));
	report.expect(
		text === "ab",
		"reads of offset 0 give the input in order",
		`"a" and "b" were received, and reads of offset 0 gave ${quote(text)}`,
		"Put each byte into a queue: a second one may come before the driver has read the first",
	);
	report.expect(
		bench.read(LSR) === 0x60,
		"DR is clear again when all input was read",
		`all input was read, and LSR reads ${hex(bench.read(LSR))}: DR (bit 0) says that there is more`,
	);
}

function checkInterrupts(bench: Bench): void {
	const { report, port } = bench;
	const cause = () => bench.read(IIR) & 0x0f;
	const none = cause();
	report.expect(
		none === 1 && !bench.level,
		"IIR (offset 2) reads 1, no interrupt, and the line is low",
		`without an interrupt IIR (offset 2) reads ${hex(none)}, and the line is ${bench.line}; 1 and low were expected`,
		none === 1 ? LOWER_HINT : NONE_HINT,
	);
	port.receive(0x61);
	report.expect(
		!bench.level,
		"input raises no interrupt while IER is 0",
		"input raises an interrupt although IER (offset 1) is 0",
		"Raise the line for input only with bit 0 of IER",
	);
	port.write(IER, 1);
	report.must(
		bench.level,
		"enabling the receive interrupt (IER bit 0) with input there raises the line",
		"input waits and IER bit 0 is set, but interrupt(true) was not called",
		"Compute the line's level after each change: of IER, of the input, of what the driver has read",
	);
	const received = cause();
	report.expect(
		received === 4,
		"IIR says why: 4, received data",
		`input waits, and IIR reads ${hex(received)}: the low four bits must be 4`,
		"Return 4 from a read of IIR as long as there is input and bit 0 of IER is set",
	);
	bench.read(DATA);
	const isLow = !bench.level;
	const after = cause();
	report.expect(
		isLow && after === 1,
		"reading the last byte lowers the line",
		`the last byte was read, and the line is ${isLow ? "low" : "still high"}, IIR reads ${hex(after)}; low and 1 were expected`,
		isLow ? NONE_HINT : LOWER_HINT,
	);
	port.receive(0x62);
	report.expect(
		bench.level,
		"the next byte of input raises it again",
		"IER bit 0 is set and a byte came, but the line stays low: the driver would not know of it",
		"Set the line from the cause at the end of receive, too",
	);
	bench.read(DATA);
	port.write(IER, 2);
	report.expect(
		bench.level,
		"enabling the transmit interrupt (IER bit 1) raises the line at once: the transmitter is empty",
		"IER bit 1 is set, and the line stays low: Linux would wait for ever with its output",
		"Remember that THR became empty, also when IER bit 1 is set",
	);
	const why = cause();
	const isAcknowledged = !bench.level;
	const then = cause();
	report.expect(
		why === 2 && then === 1 && isAcknowledged,
		"IIR reads 2 once: reading it acknowledges the transmit interrupt",
		`IIR reads ${hex(why)}, after which the line is ${isAcknowledged ? "low" : "high"}, and then ${hex(then)}; 2, low and 1 were expected`,
		transmitHint(why, then),
	);
	bench.send("x");
	report.expect(
		bench.level,
		"the next byte raises it again",
		"a byte was written with IER bit 1 set, and the line stays low",
		"Remember at each written byte that THR became empty",
	);
	port.write(IER, 3);
	port.receive(0x63);
	const first = cause();
	bench.read(DATA);
	const second = cause();
	report.expect(
		first === 4 && second === 2,
		"with both reasons IIR reads 4 first, and 2 when the input was read",
		`with input and an empty transmitter IIR reads ${hex(first)}, and ${hex(second)} when the input was read; 4, then 2 were expected`,
		first === 4
			? "Forget the transmit interrupt only at a read of IIR that returns 2"
			: "Look for input first: it has the higher priority",
	);
}

const NONE_HINT = "Return 1 from a read of IIR without a cause: its bit 0 is set when there is NO interrupt";
const LOWER_HINT = "Call interrupt(false) when there is no cause any more: after each read and write, in one function";

/** @param why IIR's first cause, @param then its second */
function transmitHint(why: number, then: number): string {
	if (why !== 2) return "Return 2 from a read of IIR when THR became empty and bit 1 of IER is set";
	if (then === 2) return "Forget the transmit interrupt when IIR was read; the next written byte brings it back";
	return then === 1 ? LOWER_HINT : NONE_HINT;
}

const TEXT = "A driver of 36 bytes prints this.\n";

async function checkGuest({ report, call }: Attempt, type: SerialPortClass): Promise<void> {
	if (!existsSync("/dev/kvm")) {
		report.open("not checked here: a guest prints through the port (this host has no /dev/kvm)");
		return;
	}
	let output = "";
	const port = new type(
		(byte) => {
			output += String.fromCharCode(byte);
			if (output === TEXT) port.receive(0x21);
		},
		() => undefined,
	);
	const ports = {
		out: (address: number, _size: number, value: number) => port.write(address - BASE, value),
		in: (address: number) => port.read(address - BASE),
	};
	const end = await call("SerialPort, under a guest,", () => runRealMode(serialDriver(TEXT), ports, 300));
	report.expect(
		end === "halted" && output === `${TEXT}!`,
		`a guest has printed ${quote(TEXT)} through it, and has read "!"`,
		`a guest printed ${quote(output)} through it, ${quote(`${TEXT}!`)} was expected; it ended by ${end} (${count(output.length, "byte")})`,
		"Let LSR say THRE for output, and DR as long as there is input",
	);
}

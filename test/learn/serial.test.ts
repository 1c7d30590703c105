/* Lab 3 and wrong attempts at it. */
import { labSuite } from "./attempts.ts";

labSuite(3, [
	{
		what: "a line status of zero",
		edits: [["return LSR_EMPTY | (this.#input.length > 0 ? LSR_DATA_READY : 0)", "return 0"]],
		finding: "LSR (offset 5) reads 0x0: a driver waits for ever for THRE",
	},
	{
		what: "a divisor that is printed",
		edits: [["this.#divisor[offset] = value;\n\t\t\treturn;", "this.#divisor[offset] = value;"]],
		finding: 'with LCR\'s DLAB (0x80) set, 0x01 was written to offset 0 as the divisor, and it came out as "\\u0001"',
	},
	{
		what: "a port that keeps the last byte alone",
		edits: [["this.#input.push(byte);", "this.#input[0] = byte;"]],
		finding: '"a" and "b" were received, and reads of offset 0 gave "b\\u0000"',
		hint: "Put each byte into a queue",
	},
	{
		what: "input that is never taken",
		edits: [["this.#input.shift() ?? 0", "this.#input[0] ?? 0"]],
		finding: 'reads of offset 0 gave "aa"',
	},
	{
		what: "an IIR that is 0 without an interrupt",
		edits: [["const IIR_NONE = 1;", "const IIR_NONE = 0;"]],
		finding: "without an interrupt IIR (offset 2) reads 0x0, and the line is low; 1 and low were expected",
	},
	{
		what: "an interrupt that nobody asked for",
		edits: [["(enabled & IER_RECEIVE) !== 0 && this.#input", "this.#input"]],
		finding: /IIR|input raises an interrupt although IER/,
	},
	{
		what: "a line that is high without a cause",
		edits: [["this.#interrupt(this.#cause() !== IIR_NONE)", "this.#interrupt(this.#cause() === IIR_NONE)"]],
		finding: /the line is high; 1 and low were expected|input raises an interrupt although IER/,
	},
	{
		what: "input that raises no interrupt when it comes",
		edits: [["this.#input.push(byte);\n\t\tthis.#update();", "this.#input.push(byte);"]],
		finding: "IER bit 0 is set and a byte came, but the line stays low",
		hint: "at the end of receive",
	},
	{
		what: "a line that a read does not lower",
		edits: [
			["const byte = this.#input.shift() ?? 0;\n\t\t\tthis.#update();", "const byte = this.#input.shift() ?? 0;"],
		],
		finding: "the last byte was read, and the line is still high, IIR reads 0x1",
		hint: "Call interrupt(false)",
	},
	{
		what: "a transmit interrupt that goes before input",
		edits: [
			[
				"if ((enabled & IER_TRANSMIT)",
				"if ((enabled & IER_RECEIVE) !== 0 && this.#input.length > 0) return IIR_RECEIVE;\n\t\tif ((enabled & IER_TRANSMIT)",
			],
			[
				"if ((enabled & IER_RECEIVE) !== 0 && this",
				"if ((enabled & IER_TRANSMIT) !== 0 && this.#becameEmpty) return IIR_TRANSMIT;\n\t\tif ((enabled & IER_RECEIVE) !== 0 && this",
			],
		],
		finding: /^with input and an empty transmitter IIR reads 0x2/,
		hint: "Look for input first",
	},
	{
		what: "a transmit interrupt that any read of IIR takes away",
		edits: [["if (cause === IIR_TRANSMIT) this.#becameEmpty = false;", "this.#becameEmpty = false;"]],
		finding: "IIR reads 0x4, and 0x1 when the input was read; 4, then 2 were expected",
		hint: "only at a read of IIR that returns 2",
	},
	{
		what: "output that is text",
		edits: [["this.#output(value);", "this.#output(String.fromCharCode(value) as never);"]],
		finding: 'output was called with "h", no number',
	},
	{
		what: "a transmit interrupt that is not acknowledged by a read of IIR",
		edits: [["if (cause === IIR_TRANSMIT) this.#becameEmpty = false;", ""]],
		finding: "IIR reads 0x2, after which the line is high, and then 0x2; 2, low and 1 were expected",
		hint: "Forget the transmit interrupt",
	},
	{
		what: "a register that reads undefined",
		edits: [["if (offset === LSR) return", "if (offset === LSR) return undefined as never; if (offset < 0) return"]],
		finding: "read(5) returned undefined: a register is a byte",
	},
	{
		what: "a class that throws",
		edits: [["this.#output(value);", "this.#outptu(value);"]],
		finding: /outptu/,
	},
	{
		what: "a scratch register without memory",
		edits: [["offset === LCR || offset === SCR", "offset === LCR"]],
		finding: "SCR (offset 7) reads 0x0 after 0xa5 was written",
	},
]);

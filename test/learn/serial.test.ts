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
		finding: "without an interrupt IIR (offset 2) reads 0x0, 1 was expected",
	},
	{
		what: "an interrupt that nobody asked for",
		edits: [["(enabled & IER_RECEIVE) !== 0 && this.#input", "this.#input"]],
		finding: /IIR|input raises an interrupt although IER/,
	},
	{
		what: "a transmit interrupt that is not acknowledged by a read of IIR",
		edits: [["if (cause === IIR_TRANSMIT) this.#becameEmpty = false;", ""]],
		finding: "IIR reads 0x2 and then 0x2, and the line is high",
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

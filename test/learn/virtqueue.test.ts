/* Lab 6 and wrong attempts at it. */
import { labSuite } from "./attempts.ts";

labSuite(6, [
	{
		what: "a head that is read from the first place each time",
		edits: [["4 + 2 * (this.#taken % size)", "4"]],
		finding: "three chains were popped as 0,0,0",
	},
	{
		what: "a chain of which only the first part is taken",
		edits: [["next: (flags & F_NEXT) === 0 ? undefined : next", "next: undefined"]],
		finding: "part 2 of 3 is nothing; 512 bytes at 0x9000, for the device to write was expected",
	},
	{
		what: "flags that are mixed up",
		edits: [["const F_WRITE = 2;", "const F_WRITE = 4;"]],
		finding: "part 2 of 3 is 512 bytes at 0x9000, for the device to read",
	},
	{
		what: "a used index that is published first",
		edits: [
			["const element = used", "this.#memory.setUint16(used + 2, this.#given + 1, true);\n\t\tconst element = used"],
		],
		finding: "used.idx is written before the element",
	},
	{
		what: "a used ring whose index stays",
		edits: [["this.#memory.setUint16(used + 2, this.#given, true);", ""]],
		finding: "used.idx (at used + 2) is 0 after one push",
	},
	{
		what: "a count of more than 16 bits",
		edits: [["this.#taken = (this.#taken + 1) & 0xffff", "this.#taken++"]],
		finding: "all chains were taken, and pop gives another one",
	},
	{
		what: "a chain that is followed for ever",
		edits: [['throw new Error("a chain that does not end");', "parts.splice(0);"]],
		finding: "The program keeps its thread busy",
		hangs: true,
	},
	{
		what: "buffers that are not checked",
		edits: [["if (address + BigInt(length) > BigInt(this.#memory.byteLength))", "if (address < 0n)"]],
		finding: "pop gives a chain of 1 parts for a buffer that ends beyond the RAM; an Error was expected",
	},
	{
		what: "an index that is refused only by accident",
		edits: [["if (index >= size) throw new Error(`descriptor", "if (index < 0) throw new Error(`descriptor"]],
		finding: /a hostile guest: (pop gives|for) .*(9 in a queue of 8|a next of 4000)/,
	},
]);

/* Instructions as the inspector shows them. */
import { expect, test } from "vitest";
import { type CodeBits, disassemble } from "../../src/inspector/disassembler.ts";

/** Each instruction with its address. */
const textOf = (bytes: readonly number[], bits: CodeBits, most = 10, address = 0x1000n) =>
	disassemble(Uint8Array.from(bytes), address, bits, most)?.map((one) => `${one.address.toString(16)} ${one.text}`);

test("disassemble reads the same bytes by the mode of the processor", () => {
	const bytes = [0x48, 0x89, 0xe5, 0xf4];
	expect(textOf(bytes, 64)).toEqual(["1000 mov     rbp,rsp", "1003 hlt"]);
	expect(textOf(bytes, 32)).toEqual(["1000 dec     eax", "1001 mov     ebp,esp", "1003 hlt"]);
	expect(textOf([0xb8, 0x34, 0x12, 0xcd, 0x10], 16)).toEqual(["1000 mov     ax,0x1234", "1003 int     0x10"]);
});

test("disassemble gives the target of a jump, the bytes of each instruction, and no more than wanted", () => {
	const found = disassemble(Uint8Array.from([0xeb, 0xfe, 0xe8, 0, 0, 0, 0, 0x90]), 0xffffffff81000000n, 64, 2);
	expect(found).toEqual([
		{
			address: 0xffffffff81000000n,
			bytes: Uint8Array.from([0xeb, 0xfe]),
			text: "jmp     short 0xffffffff81000000",
			target: 0xffffffff81000000n,
		},
		{
			address: 0xffffffff81000002n,
			bytes: Uint8Array.from([0xe8, 0, 0, 0, 0]),
			text: "call    0xffffffff81000007",
			target: 0xffffffff81000007n,
		},
	]);
});

test("disassemble has no text for bytes that are no instruction, or are cut short", () => {
	const texts = (...bytes: number[]) => disassemble(Uint8Array.from(bytes), 0n, 64, 4)?.map(({ text }) => text);
	expect(texts(0x06, 0x90, 0x90)).toEqual([undefined, "nop"]);
	expect(texts(0xe8, 0, 0)).toEqual([undefined]);
	expect(disassemble(new Uint8Array(0), 0n, 64, 4)).toEqual([]);
});

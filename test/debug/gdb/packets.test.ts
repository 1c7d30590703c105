/* Packets of GDB's protocol, as they come in pieces, damaged, and larger than they may be. */
import { expect, test } from "vitest";
import {
	encodePacket,
	type GdbInput,
	isFirstByte,
	PACKET_BYTES,
	PacketReader,
} from "../../../src/debug/gdb/packets.ts";
import { targetDescription } from "../../../src/debug/gdb/registers.ts";

/** All that is whole in `pieces`, each of which comes by itself. */
function readAll(...pieces: (string | Uint8Array)[]): (string | GdbInput["kind"])[] {
	const reader = new PacketReader();
	const found: string[] = [];
	for (const piece of pieces) {
		let bytes = typeof piece === "string" ? Buffer.from(piece, "latin1") : piece;
		for (let next = reader.next(bytes); next !== undefined; next = reader.next(bytes)) {
			found.push(next.input.kind === "packet" ? next.input.payload.toString("latin1") : next.input.kind);
			bytes = bytes.subarray(next.taken);
		}
	}
	return found;
}

test("encodePacket adds the sum and escapes, and PacketReader takes both away", () => {
	expect(encodePacket("OK").toString()).toBe("$OK#9a");
	expect(encodePacket("").toString()).toBe("$#00");
	expect(encodePacket("}#$*").toString("latin1")).toBe("$}]}\x03}\x04}\n#62");
	const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
	expect(readAll(encodePacket(all))).toEqual([all.toString("latin1")]);
});

test("PacketReader takes packets in any pieces, with what is between them", () => {
	const stream = "+$m0,4#fd-\x03$g#67$?#3F";
	const expected = ["m0,4", "again", "interrupt", "g", "?"];
	expect(readAll(stream)).toEqual(expected);
	expect(readAll(...stream)).toEqual(expected);
	/* An interrupt in a packet is a byte of it. */
	expect(readAll(encodePacket("X\x03"))).toEqual(["X\x03"]);
});

test("PacketReader refuses wrong sums and packets that are too long, and reads on", () => {
	expect(readAll("$g#66$g#xx$g#67")).toEqual(["damaged", "damaged", "g"]);
	expect(readAll("$lost end$g#67")).toEqual(["g"]);
	const most = "a".repeat(PACKET_BYTES);
	expect(readAll(encodePacket(most), encodePacket(`${most}a`), "$g#67")).toEqual([most, "damaged", "g"]);
});

test("isFirstByte tells gdb from a browser", () => {
	expect([..."+$-\x03"].every((byte) => isFirstByte(byte.charCodeAt(0)))).toBe(true);
	expect([..."GPOHD \x16"].some((byte) => isFirstByte(byte.charCodeAt(0)))).toBe(false);
});

test("targetDescription has the registers in GDB's order", () => {
	const names = [...targetDescription().matchAll(/<reg name="(\w+)" bitsize="(\d+)"/g)].map(([, name]) => name);
	expect(names.slice(0, 18).join(" ")).toBe("rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags");
	expect([names[24], names[40], names[56], names[57], names.at(-1)]).toEqual([
		"st0",
		"xmm0",
		"mxcsr",
		"fs_base",
		"efer",
	]);
});

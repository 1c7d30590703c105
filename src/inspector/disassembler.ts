/*
 * Instructions as text, by the package iced-x86. It is in a clone of tsvmm. A user of the package installs it beside,
 * because it is larger than all else that the inspector needs. Without it the bytes are shown alone.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { packageRoot } from "../host/native.ts";

type Iced = typeof import("iced-x86");

/** Bits of the code segment. */
export type CodeBits = 16 | 32 | 64;

/** An instruction. */
export interface Instruction {
	readonly address: bigint;
	readonly bytes: Uint8Array;
	/** As assemblers of Intel's syntax spell it; undefined for bytes that are no instruction. */
	readonly text: string | undefined;
	/** Where a jump or a call goes, when the instruction says so itself. */
	readonly target: bigint | undefined;
}

let iced: Iced | undefined | "missing";

function load(): Iced | undefined {
	try {
		iced ??= createRequire(join(packageRoot(), "package.json"))("iced-x86") as Iced;
	} catch {
		iced = "missing";
	}
	return iced === "missing" ? undefined : iced;
}

/** The first instructions of `code`, at most `most`. Undefined when iced-x86 is not installed. */
export function disassemble(
	code: Uint8Array,
	address: bigint,
	bits: CodeBits,
	most: number,
): Instruction[] | undefined {
	const library = load();
	if (library === undefined) return undefined;
	const { Decoder, DecoderOptions, Formatter, FormatterSyntax } = library;
	const decoder = new Decoder(bits, code, DecoderOptions.None);
	const formatter = new Formatter(FormatterSyntax.Nasm);
	formatter.firstOperandCharIndex = 8;
	formatter.hexPrefix = "0x";
	formatter.hexSuffix = "";
	formatter.uppercaseHex = false;
	formatter.branchLeadingZeros = false;
	try {
		decoder.ip = address;
		const found: Instruction[] = [];
		while (found.length < most && decoder.canDecode) {
			const at = decoder.position;
			const instruction = decoder.decode();
			const bytes = code.slice(at, decoder.position);
			const target = instruction.nearBranchTarget;
			const text = instruction.isInvalid ? undefined : formatter.format(instruction);
			found.push({ address: instruction.ip, bytes, text, target: target === 0n ? undefined : target });
			instruction.free();
		}
		return found;
	} finally {
		formatter.free();
		decoder.free();
	}
}

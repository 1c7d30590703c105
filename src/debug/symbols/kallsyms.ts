/*
 * The names that a Linux kernel has of its own functions and variables (CONFIG_KALLSYMS), found in the bytes of an
 * uncompressed kernel. No header says where they are, but their parts fit each other and nothing else (Linux 6.1 and 6.12,
 * scripts/kallsyms.c; each part begins at a multiple of 8):
 *
 *     6.1    offsets | relative_base | num_syms | names | markers | seqs_of_names | token_table | token_index
 *     6.12   num_syms | names | markers | token_table | token_index | offsets | relative_base | seqs_of_names
 *
 * A name is a length and as many bytes. Each byte stands for a token, and token_table has the tokens as strings. markers has
 * the position of each 256th name. The name's first letter is its type, as nm(1) has it. seqs_of_names sorts them, three
 * bytes each; kernels before 6.1 do not have it.
 */
import { type RawSymbol, restOfPage, Symbols } from "./symbols.ts";

const TOKENS = 256;
const PER_MARKER = 256;
/** The digits are tokens of themselves in each kernel: their names have digits. */
const DIGITS = Buffer.from("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00", "latin1");
const FIRST_DIGIT = 0x30;
/** More than KSYM_NAME_LEN of any kernel. */
const MAX_TOKEN = 2048;
/** From here on, a length has a second byte. */
const LONG_NAME = 0x80;
/** Bytes of 256 names: a length and a type at least, and on average no more than one byte of length can say. */
const MIN_BLOCK = 2 * PER_MARKER;
const MAX_BLOCK = PER_MARKER * LONG_NAME;
/** Of seqs_of_names. */
const SEQUENCE_BYTES = 3;
/** From the markers to token_table: a million symbols. */
const MAX_BETWEEN = 4 << 20;
/** Where the image of an x86-64 kernel is linked (Documentation/arch/x86/x86_64/mm.rst). */
const KERNEL_IMAGE = 0xffff_ffff_8000_0000n;

/** Undefined for a kernel without them, or one whose tables are of another form. @param path of the kernel */
export function kallsyms(image: Buffer, path: string): Symbols | undefined {
	for (let at = image.indexOf(DIGITS); at >= 0; at = image.indexOf(DIGITS, at + 1)) {
		const tokens = tokensAround(image, at);
		const names = tokens && namesBefore(image, tokens.start);
		if (names === undefined) continue;
		const { count, head } = names;
		const bytes = align8(4 * count);
		const addresses =
			addressesAt(image, { offsets: head - 8 - bytes, base: head - 8, count }) ??
			addressesAt(image, { offsets: tokens!.end, base: tokens!.end + bytes, count });
		if (addresses !== undefined) return symbolsOf(path, addresses, expand(image, names, tokens!.tokens));
	}
	return undefined;
}

interface Tokens {
	/** Where token_table begins. */
	readonly start: number;
	/** After token_index. */
	readonly end: number;
	readonly tokens: readonly string[];
}

/** The table whose token "0" is at `digit`, when the index behind it says so, too. */
function tokensAround(image: Buffer, digit: number): Tokens | undefined {
	let start = digit;
	for (let token = FIRST_DIGIT; token > 0; token--) {
		if (image[start - 1] !== 0) return undefined;
		start = image.lastIndexOf(0, start - 2) + 1;
	}
	const positions: number[] = [];
	const tokens: string[] = [];
	let at = start;
	for (let token = 0; token < TOKENS; token++) {
		const end = image.indexOf(0, at);
		if (end < 0 || end - at > MAX_TOKEN) return undefined;
		positions.push(at - start);
		tokens.push(image.toString("latin1", at, end));
		at = end + 1;
	}
	const index = start + align8(at - start);
	const end = index + 2 * TOKENS;
	if (end > image.length || positions.some((position, i) => image.readUInt16LE(index + 2 * i) !== position)) {
		return undefined;
	}
	return { start, end, tokens };
}

interface Names {
	/** Where num_syms is. */
	readonly head: number;
	readonly count: number;
}

/** The names whose markers are before token_table. */
function namesBefore(image: Buffer, end: number): Names | undefined {
	for (let markers = end - 8; markers >= 8 && end - markers < MAX_BETWEEN; markers -= 8) {
		const blocks = markersAt(image, markers, end);
		/* What follows the last one may look like another. */
		for (let count = blocks; count > 1 && count > blocks - 3; count--) {
			const found = namesOf(image, { markers, blocks: count, end });
			if (found !== undefined) return found;
		}
	}
	return undefined;
}

/** How many positions of names are at `at`: they ascend from 0. */
function markersAt(image: Buffer, at: number, end: number): number {
	if (image.readUInt32LE(at) !== 0) return 0;
	let count = 1;
	for (let before = 0; at + 4 * count + 4 <= end; count++) {
		const position = image.readUInt32LE(at + 4 * count);
		if (position < before + MIN_BLOCK || position > before + MAX_BLOCK) break;
		before = position;
	}
	return count;
}

/** The names that end at the markers. */
function namesOf(
	image: Buffer,
	{ markers, blocks, end }: { markers: number; blocks: number; end: number },
): Names | undefined {
	const last = image.readUInt32LE(markers + 4 * (blocks - 1));
	const between = end - markers - align8(4 * blocks);
	/* After the last marker are 1 to 256 names. */
	for (let names = markers - align8(last); names >= 8 && names > markers - last - MAX_BLOCK; names -= 8) {
		const head = names - 8;
		const count = image.readUInt32LE(head);
		if (Math.ceil(count / PER_MARKER) !== blocks) continue;
		if (between !== 0 && between !== align8(SEQUENCE_BYTES * count)) continue;
		const after = walkNames(image, names, { count, markers });
		if (after !== undefined && names + align8(after - names) === markers) return { head, count };
	}
	return undefined;
}

/** Goes over the names. @returns their end; undefined when the markers do not fit */
function walkNames(
	image: Buffer,
	names: number,
	{ count, markers }: { count: number; markers: number },
): number | undefined {
	let at = names;
	for (let i = 0; i < count; i++) {
		if (i % PER_MARKER === 0 && image.readUInt32LE(markers + 4 * (i / PER_MARKER)) !== at - names) return undefined;
		const { from, bytes } = nameAt(image, at);
		if (bytes === 0) return undefined;
		at = from + bytes;
		if (at > markers) return undefined;
	}
	return at;
}

/** A length of one or two bytes (ULEB128), and where the name's bytes are. */
function nameAt(image: Buffer, at: number): { from: number; bytes: number } {
	const low = image[at]!;
	return low < LONG_NAME ? { from: at + 1, bytes: low } : { from: at + 2, bytes: (low & 0x7f) | (image[at + 1]! << 7) };
}

interface Places {
	readonly offsets: number;
	readonly base: number;
	readonly count: number;
}

/** Undefined when these are not addresses of a kernel in ascending order. */
function addressesAt(image: Buffer, { offsets, base, count }: Places): bigint[] | undefined {
	if (offsets < 0 || base + 8 > image.length) return undefined;
	const relative = image.readBigUInt64LE(base);
	if (relative < KERNEL_IMAGE) return undefined;
	const raw = Array.from({ length: count }, (_, i) => image.readInt32LE(offsets + 4 * i));
	/* With negative ones, the others are absolute: variables of each CPU (CONFIG_KALLSYMS_ABSOLUTE_PERCPU). */
	const absolute = raw.some((offset) => offset < 0);
	const addresses = raw.map((offset) => {
		if (!absolute) return relative + BigInt(offset);
		return offset >= 0 ? BigInt(offset) : relative - 1n - BigInt(offset);
	});
	return addresses.every((address, i) => i === 0 || address >= addresses[i - 1]!) ? addresses : undefined;
}

/** The names of all symbols, each with its type in front. */
function expand(image: Buffer, { head, count }: Names, tokens: readonly string[]): string[] {
	let at = head + 8;
	return Array.from({ length: count }, () => {
		const { from, bytes } = nameAt(image, at);
		at = from + bytes;
		let name = "";
		for (let i = from; i < at; i++) name += tokens[image[i]!]!;
		return name;
	});
}

function symbolsOf(path: string, addresses: readonly bigint[], typed: readonly string[]): Symbols {
	let at = 0;
	const raw = typed.map((name, i): RawSymbol => {
		const type = name.slice(0, 1);
		const address = addresses[i]!;
		const size = i === typed.length - 1 ? restOfPage(address) : 0n;
		const symbol = { address, size, name: at + 1, global: type !== type.toLowerCase() };
		at += name.length + 1;
		return symbol;
	});
	return Symbols.of(path, raw, Buffer.from(`${typed.join("\0")}\0`, "latin1"));
}

function align8(bytes: number): number {
	return Math.ceil(bytes / 8) * 8;
}

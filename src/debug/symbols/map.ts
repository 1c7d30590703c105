/*
 * Symbols as text: the System.map that a kernel's build writes, and /proc/kallsyms, which has modules as well.
 *
 *     ffffffff81000000 T _text                     address, type as nm(1) has it (capital: global), name
 *     ffffffffc0441000 t virtblk_probe	[virtio_blk]
 */
import { damaged } from "./elf.ts";
import { type RawSymbol, restOfPage, Symbols } from "./symbols.ts";

const LINE = /^([0-9a-f]{16}) ([A-Za-z?]) (\S+)(?:\s+(\[\S+\]))?$/;

interface Line {
	readonly address: bigint;
	readonly type: string;
	readonly name: string;
	readonly module: string | undefined;
}

/** @throws ImageError ERR_SYMBOLS for text that is none of it, or has no addresses */
export function mapSymbols(text: string, path: string): Symbols {
	const lines = text.split("\n").filter((line) => line !== "");
	const all = lines.map((line, i): Line => {
		const found = LINE.exec(line.trimEnd());
		if (found === null) throw damaged(path, `line ${i + 1} is none of a System.map: "${line.slice(0, 60)}"`);
		const [, address, type, name, module] = found;
		return { address: BigInt(`0x${address}`), type: type!, name: name!, module };
	});
	if (all.length === 0) throw damaged(path, "it is empty");
	if (all.every(({ address }) => address === 0n)) {
		throw damaged(path, "all of its addresses are 0", "Read it as root: cat /proc/kallsyms");
	}
	return symbolsOf(path, all);
}

function symbolsOf(path: string, all: readonly Line[]): Symbols {
	/* A name of no characters ends the kernel and each module: what is behind them has no name. */
	const names: string[] = [""];
	let at = 1;
	const raw: RawSymbol[] = [];
	const sorted = all.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
	sorted.forEach(({ address, type, name, module }, i) => {
		const shown = module === undefined ? name : `${name} ${module}`;
		const next = sorted[i + 1];
		const rest = restOfPage(address);
		raw.push({ address, size: next === undefined ? rest : 0n, name: at, global: type !== type.toLowerCase() });
		names.push(shown);
		at += Buffer.byteLength(shown) + 1;
		if (next !== undefined && next.module !== module && next.address >= address + rest) {
			raw.push({ address: address + rest, size: 0n, name: 0, global: false });
		}
	});
	return Symbols.of(path, raw, Buffer.from(`${names.join("\0")}\0`));
}

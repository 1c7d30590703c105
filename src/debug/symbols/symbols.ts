/*
 * Symbols of a kernel: names for addresses and addresses for names. They come from an ELF file (elf.ts), a System.map
 * (map.ts) or the kernel's own tables (kallsyms.ts).
 */

/** A symbol as it was read. */
export interface RawSymbol {
	readonly address: bigint;
	/** Bytes; 0 where that is not known. The last one ends what has names. */
	readonly size: bigint;
	/** Where its name begins in the names. An empty name ends what is before it. */
	readonly name: number;
	readonly global: boolean;
}

/** A symbol and how far behind it an address is. */
export interface NearSymbol {
	/** A module's has the module behind it: "probe [virtio_blk]". */
	readonly name: string;
	readonly address: bigint;
	readonly offset: bigint;
}

export class Symbols {
	/** The file that they are from; undefined when there is none. */
	readonly path: string | undefined;
	/** How far the kernel is from where its symbols say: KASLR. */
	readonly slide: bigint;
	readonly #names: Buffer;
	/** Sorted. */
	readonly #addresses: BigUint64Array;
	/** In #names, of each address. */
	readonly #at: Uint32Array;
	/** After the last symbol's bytes. */
	readonly #end: bigint;

	/** @param names strings that end with NUL, at the `name` of each symbol */
	static of(path: string | undefined, all: readonly RawSymbol[], names: Buffer): Symbols {
		/* Of several at one address the global one is told. */
		const sorted = places(all).toSorted((a, b) => order(a.address, b.address) || Number(b.global) - Number(a.global));
		const kept = sorted.filter((one, i) => i === 0 || one.address !== sorted[i - 1]!.address);
		return new Symbols({
			path,
			slide: 0n,
			names,
			addresses: BigUint64Array.from(kept, ({ address }) => address),
			at: Uint32Array.from(kept, ({ name }) => name),
			end: lastEnd(kept),
		});
	}

	/** None at all. */
	static readonly none = Symbols.of(undefined, [], Buffer.alloc(0));

	private constructor(table: Table) {
		this.path = table.path;
		this.slide = table.slide;
		this.#names = table.names;
		this.#addresses = table.addresses;
		this.#at = table.at;
		this.#end = table.end;
	}

	/** How many addresses there are. */
	get count(): number {
		return this.#addresses.length;
	}

	/** The same ones of a kernel that has moved itself. */
	moved(slide: bigint): Symbols {
		return new Symbols({
			path: this.path,
			slide,
			names: this.#names,
			addresses: this.#addresses,
			at: this.#at,
			end: this.#end,
		});
	}

	/** The last symbol at or before `address`; undefined outside the kernel. */
	nearest(address: bigint): NearSymbol | undefined {
		const linked = address - this.slide;
		if (linked >= this.#end) return undefined;
		let low = 0;
		let high = this.#addresses.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#addresses[middle]! <= linked) low = middle + 1;
			else high = middle;
		}
		if (low === 0) return undefined;
		const found = this.#addresses[low - 1]!;
		const name = this.#name(low - 1);
		return name === "" ? undefined : { name, address: found + this.slide, offset: linked - found };
	}

	/** "start_kernel+0x12", "probe+0x8 [module]", or the address in hexadecimal where there is no symbol. */
	describe(address: bigint): string {
		const near = this.nearest(address);
		if (near === undefined) return `0x${address.toString(16)}`;
		const offset = near.offset === 0n ? "" : `+0x${near.offset.toString(16)}`;
		const module = near.name.indexOf(" [");
		if (module < 0) return near.name + offset;
		return near.name.slice(0, module) + offset + near.name.slice(module);
	}

	/** The address of a symbol that is the first at its address. */
	find(name: string): bigint | undefined {
		const wanted = Buffer.from(`${name}\0`, "latin1");
		const at = this.#at.findIndex((from) => this.#names.subarray(from, from + wanted.length).equals(wanted));
		return at < 0 ? undefined : this.#addresses[at]! + this.slide;
	}

	#name(i: number): string {
		const from = this.#at[i]!;
		const end = this.#names.indexOf(0, from);
		return this.#names.toString("latin1", from, end < 0 ? this.#names.length : end);
	}
}

interface Table {
	readonly path: string | undefined;
	readonly slide: bigint;
	readonly names: Buffer;
	readonly addresses: BigUint64Array;
	readonly at: Uint32Array;
	readonly end: bigint;
}

const PAGE = 4096n;

/** From a symbol whose size nobody knows, and that nothing follows, to the end of its page. */
export function restOfPage(address: bigint): bigint {
	return PAGE - (address % PAGE);
}

const order = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);

/** Without the variables of each CPU, when there is kernel code: their addresses are offsets from 0 on. */
function places(all: readonly RawSymbol[]): readonly RawSymbol[] {
	const high = all.filter(({ address }) => address >> 63n === 1n);
	return high.length > 0 ? high : all;
}

function lastEnd(all: readonly RawSymbol[]): bigint {
	let end = 0n;
	for (const { address, size } of all) if (address + size > end) end = address + size;
	return end;
}

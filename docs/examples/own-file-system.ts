/*
 * A file system of one's own: a multiplication table. The directory /7 has a file for each product, and the file 7/6
 * says 42. Nothing of it is stored: names, sizes and texts are made up when the guest asks.
 *
 *     mount -t virtiofs numbers /mnt; cat /mnt/7/6
 */
import { type Attributes, type DirectoryEntry, ErrnoError, type FileSystem, type OpenFile } from "tsvmm";
import type { Segments } from "tsvmm/virtio";

/** A node: the root, the directory of a factor, or the file of two factors. */
class Product {
	readonly factors: readonly number[];
	/** The guest is to get the same object for the same name. */
	readonly children = new Map<string, Product>();

	constructor(factors: readonly number[]) {
		this.factors = factors;
	}

	get text(): Buffer {
		return Buffer.from(`${this.factors.reduce((a, b) => a * b)}\n`);
	}
}

const TEN = Array.from({ length: 10 }, (_, i) => `${i + 1}`);
const DIRECTORY = 0o040555;
const FILE = 0o100444;

export class Multiplication implements FileSystem<Product> {
	readonly root = new Product([]);

	lookup(parent: Product, name: string): Product {
		if (parent.factors.length === 2 || !TEN.includes(name)) throw ErrnoError.of("ENOENT");
		const found = parent.children.get(name) ?? new Product([...parent.factors, Number(name)]);
		parent.children.set(name, found);
		return found;
	}

	getattr(node: Product): Attributes {
		return node.factors.length < 2 ? { mode: DIRECTORY, nlink: 2 } : { mode: FILE, size: node.text.length };
	}

	/* Positions count from 1: what the guest has read up to position 3 are the first three. */
	readdir({ node }: OpenFile<Product, object>, position: bigint): DirectoryEntry[] {
		const mode = node.factors.length === 0 ? DIRECTORY : FILE;
		return TEN.map((name, i) => ({ name, mode, position: BigInt(i + 1) })).slice(Number(position));
	}

	read({ node }: OpenFile<Product, object>, offset: number, into: Segments): number {
		return into.copyFrom(node.text.subarray(offset));
	}
}

/*
 * Binary layouts. A struct is a frozen table of byte offsets by the C rules (natural alignment, padded to the largest
 * member). So `view.getUint32(at + kvm_regs.rip, true)` reads like `regs->rip`. It allocates nothing, and a misspelt
 * field does not compile. Layouts carry `sizeof`, from which ioctl numbers are computed; an ABI test compares every
 * size and offset with the real C headers.
 */

/** A member's type: a scalar by its width, or an array/nested struct through `array` and `nested`. */
export type Member = "u8" | "u16" | "u32" | "u64" | "s16" | "s32" | "s64" | Sized;

/** Anything with a size and an alignment, both in bytes. */
export interface Sized {
	/** Its size. */
	readonly sizeof: number;
	/** Its address is a multiple of this. */
	readonly alignof: number;
}

/** Offsets in bytes by field name, plus the struct's own size and alignment. */
export type Layout<F extends string> = Readonly<Record<F, number>> & Sized & { readonly structName: string };

/** The property with a struct's types of members, for typed views (kvm/struct-view.ts). */
export const MEMBERS = Symbol("members");

/** A struct: its layout, and the types of its members. */
export type Struct<N extends string, M extends Readonly<Record<string, Member>>> = Layout<keyof M & string> & {
	readonly structName: N;
	readonly [MEMBERS]: M;
};

/** Members of one type in a row. */
export interface Row<M extends Member> extends Sized {
	/** The type of each. */
	readonly element: M;
	/** How many members. A flexible array member has 0. */
	readonly count: number;
}

const SCALAR: Record<string, number> = { u8: 1, u16: 2, u32: 4, u64: 8, s16: 2, s32: 4, s64: 8 };

function sized(member: Member): Sized {
	if (typeof member !== "string") return member;
	const bytes = SCALAR[member]!;
	return { sizeof: bytes, alignof: bytes };
}

/** `count` members of one type in a row, as in `__u64 gpa[4]`. A count of 0 is a flexible array member. */
export function array<const M extends Member>(member: M, count: number): Row<M> {
	const one = sized(member);
	return { sizeof: one.sizeof * count, alignof: one.alignof, element: member, count };
}

/** A union: as large as its largest member. */
export function union(...members: Member[]): Sized {
	const all = members.map(sized);
	const alignof = Math.max(...all.map((m) => m.alignof));
	return { sizeof: roundUp(Math.max(...all.map((m) => m.sizeof)), alignof), alignof };
}

function roundUp(value: number, multiple: number): number {
	return Math.ceil(value / multiple) * multiple;
}

/**
 * Lays out a C struct.
 *
 * @param structName the struct's name in its C header, for the ABI test and messages
 * @param members field names in order with their types
 * @param packed true for `__attribute__((packed))`
 */
export function struct<const N extends string, const M extends Readonly<Record<string, Member>>>(
	structName: N,
	members: M,
	packed = false,
): Struct<N, M> {
	const layout: Record<string, number | string> = {};
	let offset = 0;
	let alignof = 1;
	for (const [name, member] of Object.entries(members)) {
		const { sizeof, alignof: own } = sized(member);
		if (!packed) offset = roundUp(offset, own);
		layout[name] = offset;
		offset += sizeof;
		if (!packed) alignof = Math.max(alignof, own);
	}
	const sizes = { sizeof: roundUp(offset, alignof), alignof };
	return Object.freeze({ ...layout, structName, ...sizes, [MEMBERS]: members }) as unknown as Struct<N, M>;
}

/*
 * Typed views of KVM's structures, made from their layouts: `sregs.cs.selector = 0` writes two bytes, a misspelt field
 * does not compile, and a kvm_sregs where KVM wants a kvm_regs does not either. They are for state that is read and set
 * while a vCPU is stopped. The exit path allocates nothing and uses the offsets themselves (machine/vcpu-exit.ts).
 */
import { UsageError } from "../base/errors.ts";
import { type Layout, MEMBERS, type Member, type Row, type Sized, type Struct } from "../base/struct.ts";
import type * as structs from "./structs.ts";

type Members = Readonly<Record<string, Member>>;
type Scalar = Extract<Member, string>;
/** What a member is in a view. */
export type MemberValue<M> = M extends "u64" | "s64"
	? bigint
	: M extends string
		? number
		: M extends Struct<infer N, infer Inner>
			? StructView<Struct<N, Inner>>
			: M extends Row<infer Element>
				? ArrayValue<Element>
				: Uint8Array;

/** What an array of such members is in a view. */
export type ArrayValue<M> = M extends "u8"
	? Uint8Array
	: M extends "u16"
		? Uint16Array
		: M extends "u32"
			? Uint32Array
			: M extends "u64"
				? BigUint64Array
				: readonly MemberValue<M>[];

/**
 * A struct in memory. A scalar is read and written by its name: a bigint for 64 bits, a number for less. An array of
 * scalars is a typed array, a struct a view, a union its bytes; all of them are the same memory.
 */
export type StructView<S> =
	S extends Struct<infer N, infer M>
		? { -readonly [F in keyof M as M[F] extends string ? F : never]: MemberValue<M[F]> } & {
				readonly [F in keyof M as M[F] extends string ? never : F]: MemberValue<M[F]>;
			} & {
				/** The memory itself, as the ioctl takes it. */
				readonly bytes: Buffer;
				/** The struct's name in its C header. */
				readonly structName: N;
			}
		: never;

/**
 * A view of a struct.
 *
 * @param layout of structs.ts
 * @param bytes the memory, which stays the caller's; fresh and all zeroes when missing
 * @throws UsageError ERR_KVM_ARGUMENT for less memory than the struct takes, or memory that is not aligned as it has to be
 */
export function structView<N extends string, M extends Members>(
	layout: Struct<N, M>,
	bytes: Buffer = Buffer.alloc(layout.sizeof),
): StructView<Struct<N, M>> {
	const { structName, sizeof, alignof } = layout;
	if (bytes.byteLength < sizeof || bytes.byteOffset % alignof !== 0) {
		const found = `${bytes.byteLength} bytes at offset ${bytes.byteOffset} were given`;
		const wanted = `it takes ${sizeof} at a multiple of ${alignof}`;
		throw new UsageError("ERR_KVM_ARGUMENT", `Cannot view struct ${structName}: ${found}, ${wanted}`);
	}
	return new (viewClass(layout))(bytes) as StructView<Struct<N, M>>;
}

/** A struct kvm_regs. */
export type KvmRegs = StructView<typeof structs.kvm_regs>;
/** A struct kvm_segment. */
export type KvmSegment = StructView<typeof structs.kvm_segment>;
/** A struct kvm_dtable. */
export type KvmDtable = StructView<typeof structs.kvm_dtable>;
/** A struct kvm_sregs. */
export type KvmSregs = StructView<typeof structs.kvm_sregs>;
/** A struct kvm_fpu. */
export type KvmFpu = StructView<typeof structs.kvm_fpu>;
/** A struct kvm_lapic_state. */
export type KvmLapicState = StructView<typeof structs.kvm_lapic_state>;
/** A struct kvm_vcpu_events. */
export type KvmVcpuEvents = StructView<typeof structs.kvm_vcpu_events>;
/** A struct kvm_debugregs. */
export type KvmDebugregs = StructView<typeof structs.kvm_debugregs>;
/** A struct kvm_xcrs. */
export type KvmXcrs = StructView<typeof structs.kvm_xcrs>;
/** A struct kvm_irqchip. */
export type KvmIrqchip = StructView<typeof structs.kvm_irqchip>;
/** A struct kvm_pit_state2. */
export type KvmPitState2 = StructView<typeof structs.kvm_pit_state2>;
/** A struct kvm_clock_data. */
export type KvmClockData = StructView<typeof structs.kvm_clock_data>;

type AnyStruct = Layout<string> & { readonly [MEMBERS]: Members };
type ViewClass = new (bytes: Buffer) => { readonly bytes: Buffer };

const classes = new WeakMap<AnyStruct, ViewClass>();

/** The class of a struct's views, made at the first of them: its accessors are on the prototype. */
function viewClass(layout: AnyStruct): ViewClass {
	const known = classes.get(layout);
	if (known !== undefined) return known;
	const made = class {
		readonly bytes: Buffer;
		constructor(bytes: Buffer) {
			this.bytes = bytes;
		}
	};
	Object.defineProperty(made.prototype, "structName", { value: layout.structName });
	for (const [name, member] of Object.entries(layout[MEMBERS])) {
		Object.defineProperty(made.prototype, name, accessor(member, layout[name]!));
	}
	classes.set(layout, made);
	return made;
}

function accessor(member: Member, at: number): PropertyDescriptor & ThisType<{ readonly bytes: Buffer }> {
	if (typeof member !== "string") {
		return {
			get() {
				return part(member, this.bytes.subarray(at));
			},
		};
	}
	const { read, write } = SCALARS[member];
	return {
		get() {
			return read(this.bytes, at);
		},
		set(value: never) {
			write(this.bytes, value, at);
		},
	};
}

/** What is at the beginning of `bytes`. */
function part(member: Sized, bytes: Buffer): unknown {
	if (MEMBERS in member) return structView(member as Struct<string, Members>, bytes.subarray(0, member.sizeof));
	if (!("element" in member)) return new Uint8Array(bytes.buffer, bytes.byteOffset, member.sizeof);
	const { element, count } = member as Row<Member>;
	const { buffer, byteOffset } = bytes;
	if (element === "u8") return new Uint8Array(buffer, byteOffset, count);
	if (element === "u16") return new Uint16Array(buffer, byteOffset, count);
	if (element === "u32") return new Uint32Array(buffer, byteOffset, count);
	if (element === "u64") return new BigUint64Array(buffer, byteOffset, count);
	const { sizeof } = element as Sized;
	return Array.from({ length: count }, (_, i) => part(element as Sized, bytes.subarray(i * sizeof)));
}

interface ScalarAccess {
	read(bytes: Buffer, at: number): number | bigint;
	write(bytes: Buffer, value: never, at: number): void;
}

const SCALARS: Readonly<Record<Scalar, ScalarAccess>> = {
	u8: { read: (bytes, at) => bytes.readUInt8(at), write: (bytes, value, at) => bytes.writeUInt8(value, at) },
	u16: { read: (bytes, at) => bytes.readUInt16LE(at), write: (bytes, value, at) => bytes.writeUInt16LE(value, at) },
	u32: { read: (bytes, at) => bytes.readUInt32LE(at), write: (bytes, value, at) => bytes.writeUInt32LE(value, at) },
	u64: {
		read: (bytes, at) => bytes.readBigUInt64LE(at),
		write: (bytes, value, at) => bytes.writeBigUInt64LE(value, at),
	},
	s16: { read: (bytes, at) => bytes.readInt16LE(at), write: (bytes, value, at) => bytes.writeInt16LE(value, at) },
	s32: { read: (bytes, at) => bytes.readInt32LE(at), write: (bytes, value, at) => bytes.writeInt32LE(value, at) },
	s64: {
		read: (bytes, at) => bytes.readBigInt64LE(at),
		write: (bytes, value, at) => bytes.writeBigInt64LE(value, at),
	},
};

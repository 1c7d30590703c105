/*
 * The registers of a vCPU as GDB numbers them: the order of the target description, which is what tells GDB the numbers
 * (GDB manual, "Target Descriptions", "i386 Features"). The control registers are a feature of ours.
 */

import type { KvmFpu, KvmRegs, KvmSregs } from "../../kvm/struct-view.ts";
import type { Vcpu } from "../../kvm/vcpu.ts";
import type { MachineDebugger } from "../debugger.ts";

/** What a vCPU holds; each part is read when a register of it is wanted. */
interface State {
	readonly regs: KvmRegs;
	readonly sregs: KvmSregs;
	readonly fpu: KvmFpu;
	readonly vcpu: Vcpu;
}
type Part = Exclude<keyof State, "vcpu"> | "msr";

interface Register {
	readonly name: string;
	readonly bits: 32 | 64 | 80 | 128;
	readonly type: string;
	readonly part: Part;
	get(state: State): bigint;
	set(state: State, value: bigint): void;
}

interface Feature {
	readonly name: string;
	/** Definitions of types. */
	readonly types: string;
	readonly registers: readonly Register[];
}

const MSR_KERNEL_GS_BASE = 0xc000_0102;

const GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const;
const NUMBERED = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"] as const;
const CONTROL = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer"] as const;

type NumberOf<T> = { [K in keyof T]: T[K] extends number ? K : never }[keyof T];

function general(name: (typeof GENERAL)[number] | (typeof NUMBERED)[number] | "rip" | "rflags"): Register {
	const isFlags = name === "rflags";
	const type = name === "rip" ? "code_ptr" : name === "rsp" || name === "rbp" ? "data_ptr" : "int64";
	return {
		name: isFlags ? "eflags" : name,
		bits: isFlags ? 32 : 64,
		type: isFlags ? "flags" : type,
		part: "regs",
		get: ({ regs }) => regs[name],
		set: ({ regs }, value) => {
			regs[name] = value;
		},
	};
}

/** Only the selector. GDB writes all registers back, and one that has not changed must not change its base either. */
function segment(name: (typeof SEGMENTS)[number]): Register {
	return {
		name,
		bits: 32,
		type: "int32",
		part: "sregs",
		get: ({ sregs }) => BigInt(sregs[name].selector),
		set: ({ sregs }, value) => {
			sregs[name].selector = Number(value & 0xffffn);
		},
	};
}

function base(name: "fs" | "gs"): Register {
	return {
		name: `${name}_base`,
		bits: 64,
		type: "int64",
		part: "sregs",
		get: ({ sregs }) => sregs[name].base,
		set: ({ sregs }, value) => {
			sregs[name].base = value;
		},
	};
}

function control(name: (typeof CONTROL)[number]): Register {
	return {
		name,
		bits: 64,
		type: "int64",
		part: "sregs",
		get: ({ sregs }) => sregs[name],
		set: ({ sregs }, value) => {
			sregs[name] = value;
		},
	};
}

/** st0 and xmm0 and so on, in arrays of 16 bytes. */
function vector(name: string, array: "fpr" | "xmm", index: number): Register {
	const bytes = ({ fpu }: State) => {
		const { buffer, byteOffset } = fpu[array];
		return Buffer.from(buffer, byteOffset + 16 * index, 16);
	};
	const isFloat = array === "fpr";
	return {
		name,
		bits: isFloat ? 80 : 128,
		type: isFloat ? "i387_ext" : "vec128",
		part: "fpu",
		get: (state) => readLittle(bytes(state).subarray(0, isFloat ? 10 : 16)),
		set: (state, value) => writeLittle(bytes(state).subarray(0, isFloat ? 10 : 16), value),
	};
}

function float(name: string, field: NumberOf<KvmFpu> | "ftag" | "none", mask = 0xffff): Register {
	return {
		name,
		bits: 32,
		type: "int",
		part: "fpu",
		get: ({ fpu }) => {
			if (field === "none") return 0n;
			return BigInt(field === "ftag" ? fullTags(fpu.ftwx) : fpu[field] & mask);
		},
		set: ({ fpu }, value) => {
			if (field === "ftag") fpu.ftwx = shortTags(Number(value & 0xffffn));
			else if (field !== "none") fpu[field] = Number(value) & mask;
		},
	};
}

/** KVM's tags have a bit for each register that is not empty, the processor's two: 3 is empty. */
function fullTags(short: number): number {
	let full = 0;
	for (let i = 0; i < 8; i++) if ((short & (1 << i)) === 0) full |= 3 << (2 * i);
	return full;
}

function shortTags(full: number): number {
	let short = 0;
	for (let i = 0; i < 8; i++) if (((full >> (2 * i)) & 3) !== 3) short |= 1 << i;
	return short;
}

const FEATURES: readonly Feature[] = [
	{
		name: "org.gnu.gdb.i386.core",
		types: flagsType({
			CF: 0,
			PF: 2,
			AF: 4,
			ZF: 6,
			SF: 7,
			TF: 8,
			IF: 9,
			DF: 10,
			OF: 11,
			NT: 14,
			RF: 16,
			AC: 18,
			ID: 21,
		}),
		registers: [
			...GENERAL.map(general),
			...NUMBERED.map(general),
			general("rip"),
			general("rflags"),
			...SEGMENTS.map(segment),
			...Array.from({ length: 8 }, (_, i) => vector(`st${i}`, "fpr", i)),
			float("fctrl", "fcw"),
			float("fstat", "fsw"),
			float("ftag", "ftag"),
			float("fiseg", "none"),
			float("fioff", "none"),
			float("foseg", "none"),
			float("fooff", "none"),
			float("fop", "last_opcode", 0x7ff),
		],
	},
	{
		name: "org.gnu.gdb.i386.sse",
		types: [
			'<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>',
			'<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>',
			'<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/><union id="vec128">',
			'<field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/>',
			'<field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>',
			'<field name="uint128" type="uint128"/></union>',
		].join(""),
		registers: [...Array.from({ length: 16 }, (_, i) => vector(`xmm${i}`, "xmm", i)), float("mxcsr", "mxcsr", -1)],
	},
	{ name: "org.gnu.gdb.i386.segments", types: "", registers: [base("fs"), base("gs")] },
	{
		name: "tsvmm.control",
		types: "",
		registers: [
			{
				name: "k_gs_base",
				bits: 64,
				type: "int64",
				part: "msr",
				get: ({ vcpu }) => vcpu.getMsrs([MSR_KERNEL_GS_BASE]).get(MSR_KERNEL_GS_BASE) ?? 0n,
				set: ({ vcpu }, value) => vcpu.setMsrs([[MSR_KERNEL_GS_BASE, value]]),
			},
			...CONTROL.map(control),
		],
	},
];

const REGISTERS: readonly Register[] = FEATURES.flatMap(({ registers }) => registers);
/** Of all registers in a row. */
export const REGISTER_BYTES = REGISTERS.reduce((sum, { bits }) => sum + bits / 8, 0);

/** The target description, an XML document. */
export function targetDescription(): string {
	const features = FEATURES.map(({ name, types, registers }) => {
		const rows = registers.map((one) => `<reg name="${one.name}" bitsize="${one.bits}" type="${one.type}"/>`);
		return `<feature name="${name}">${types}${rows.join("")}</feature>`;
	});
	const head = '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">';
	return `${head}<target><architecture>i386:x86-64</architecture>${features.join("")}</target>`;
}

/** All registers of a stopped vCPU in a row. */
export function readAll(debug: MachineDebugger, vcpu: number): Buffer {
	const state = stateOf(debug, vcpu);
	return Buffer.concat(REGISTERS.map((register) => bytesOf(register, state)));
}

/** One register by its number; undefined when there is none. */
export function readOne(debug: MachineDebugger, vcpu: number, number: number): Buffer | undefined {
	const register = REGISTERS[number];
	return register && bytesOf(register, stateOf(debug, vcpu));
}

/** Writes those that differ, so that a value that KVM does not take back as it gave it does no harm. */
export function writeAll(debug: MachineDebugger, vcpu: number, bytes: Buffer): void {
	const state = stateOf(debug, vcpu);
	const changed = new Set<Part>();
	let at = 0;
	for (const register of REGISTERS) {
		const value = bytes.subarray(at, at + register.bits / 8);
		at += value.length;
		if (value.equals(bytesOf(register, state))) continue;
		register.set(state, readLittle(value));
		changed.add(register.part);
	}
	store(state, changed);
}

/** False: there is no such register, or it has another size. */
export function writeOne(debug: MachineDebugger, vcpu: number, number: number, bytes: Buffer): boolean {
	const register = REGISTERS[number];
	if (register === undefined || bytes.length !== register.bits / 8) return false;
	const state = stateOf(debug, vcpu);
	register.set(state, readLittle(bytes));
	store(state, new Set([register.part]));
	return true;
}

function stateOf(debug: MachineDebugger, index: number): State {
	const vcpu = debug.vcpu(index);
	let regs: KvmRegs | undefined;
	let sregs: KvmSregs | undefined;
	let fpu: KvmFpu | undefined;
	return {
		vcpu,
		get regs() {
			regs ??= vcpu.getRegs();
			return regs;
		},
		get sregs() {
			sregs ??= vcpu.getSregs();
			return sregs;
		},
		get fpu() {
			fpu ??= vcpu.getFpu();
			return fpu;
		},
	};
}

function store(state: State, changed: ReadonlySet<Part>): void {
	if (changed.has("regs")) state.vcpu.setRegs(state.regs);
	if (changed.has("sregs")) state.vcpu.setSregs(state.sregs);
	if (changed.has("fpu")) state.vcpu.setFpu(state.fpu);
}

function bytesOf(register: Register, state: State): Buffer {
	const bytes = Buffer.alloc(register.bits / 8);
	writeLittle(bytes, register.get(state));
	return bytes;
}

function readLittle(bytes: Uint8Array): bigint {
	let value = 0n;
	for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
	return value;
}

function writeLittle(bytes: Uint8Array, value: bigint): void {
	let rest = BigInt.asUintN(8 * bytes.length, value);
	for (let i = 0; i < bytes.length; i++) {
		bytes[i] = Number(rest & 0xffn);
		rest >>= 8n;
	}
}

/** A type of 32 bits for EFLAGS, from the bits' positions. */
function flagsType(bits: Readonly<Record<string, number>>): string {
	const fields = Object.entries(bits).map(([name, at]) => `<field name="${name}" start="${at}" end="${at}"/>`);
	return `<flags id="flags" size="4">${fields.join("")}</flags>`;
}

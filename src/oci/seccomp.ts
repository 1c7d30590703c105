/*
 * linux.seccomp of config.json (config-linux.md, "Seccomp") as a program for the filter of the guest's kernel. libseccomp
 * compiles it on the host; the agent loads it before a process begins (docs/agent.md).
 */

import type { SeccompFilter } from "../agent/exec-spec.ts";
import { explain } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { architectureOf, type Comparison, NATIVE, SystemCallRules, systemCallNumber } from "../host/libseccomp.ts";
import { OciError } from "./runtime-error.ts";
import { list, optional } from "./schema.ts";

/** SCMP_ACT_* that need no more than the name. */
const ACTIONS: Readonly<Record<string, number>> = {
	SCMP_ACT_KILL: 0,
	SCMP_ACT_KILL_THREAD: 0,
	SCMP_ACT_KILL_PROCESS: 0x8000_0000,
	SCMP_ACT_TRAP: 0x0003_0000,
	SCMP_ACT_LOG: 0x7ffc_0000,
	SCMP_ACT_ALLOW: 0x7fff_0000,
};
/** Those with a number for the process or its tracer in their low half. */
const NUMBERED: Readonly<Record<string, number>> = { SCMP_ACT_ERRNO: 0x0005_0000, SCMP_ACT_TRACE: 0x7ff0_0000 };
/** enum scmp_compare */
const OPERATORS = [
	...["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"],
] as const;
/** SECCOMP_FILTER_FLAG_*, of <linux/seccomp.h>. */
const FLAGS: Readonly<Record<string, number>> = {
	SECCOMP_FILTER_FLAG_TSYNC: 1,
	SECCOMP_FILTER_FLAG_LOG: 2,
	SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
};
const EPERM = 1;
const ENOSYS = 38;

const Argument = z.object({
	index: z.int().check(z.minimum(0), z.maximum(5)),
	value: z.int(),
	valueTwo: optional(z.int()),
	op: z.enum(OPERATORS),
});
const Rule = z.object({
	names: list(z.string()),
	action: z.string(),
	errnoRet: optional(z.int()),
	args: list(Argument),
});

/** The schema of linux.seccomp. */
export const Seccomp = z.object({
	defaultAction: z.string(),
	defaultErrnoRet: optional(z.int()),
	architectures: list(z.string()),
	flags: list(z.string()),
	listenerPath: optional(z.string()),
	syscalls: list(Rule),
});
export type Seccomp = z.infer<typeof Seccomp>;
type Rule = z.infer<typeof Rule>;

/** @throws OciError ERR_OCI_SECCOMP in the words of runc */
export function compileSeccomp(seccomp: Seccomp): SeccompFilter {
	try {
		const flags = seccomp.flags.reduce((all, name) => all | known(FLAGS, name, "flag"), 0);
		return { flags, program: Buffer.concat([newerCalls(seccomp), rules(seccomp)]) };
	} catch (cause) {
		throw new OciError("ERR_OCI_SECCOMP", `unable to init seccomp: ${explain(cause)}`, { cause });
	}
}

function rules(seccomp: Seccomp): Buffer {
	const otherwise = actionOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
	using filter = new SystemCallRules(otherwise);
	for (const name of seccomp.architectures) filter.addArchitecture(architecture(name));
	for (const rule of seccomp.syscalls) {
		const action = actionOf(rule.action, rule.errnoRet);
		/* libseccomp refuses a rule that changes nothing. */
		if (action === otherwise) continue;
		for (const name of rule.names) {
			const number = systemCallNumber(NATIVE, name);
			/* One that this libseccomp does not know: the default holds for it. */
			if (number === -1) continue;
			for (const comparisons of alternatives(rule)) filter.add(action, number, comparisons);
		}
	}
	return filter.compile();
}

/** All conditions must be true. Several on one argument are alternatives, as in runc. */
function alternatives({ args }: Rule): Comparison[][] {
	const comparisons = args.map(({ index, value, valueTwo = 0, op }) => ({
		...{ index, operator: OPERATORS.indexOf(op) + 1 },
		...{ value: BigInt(value), second: BigInt(valueTwo) },
	}));
	const isRepeated = new Set(args.map(({ index }) => index)).size < args.length;
	return isRepeated ? comparisons.map((one) => [one]) : [comparisons];
}

function actionOf(name: string, number = EPERM): number {
	if (Object.hasOwn(NUMBERED, name)) return NUMBERED[name]! + (number & 0xffff);
	if (name === "SCMP_ACT_NOTIFY")
		throw new Error("SCMP_ACT_NOTIFY: a listener on the host cannot answer for the guest's kernel");
	return known(ACTIONS, name, "action");
}

function architecture(name: string): number {
	const token = architectureOf(name.replace(/^SCMP_ARCH_/, "").toLowerCase());
	if (token === 0) throw new Error(`string ${name} is not a valid arch for seccomp`);
	return token;
}

function known(table: Readonly<Record<string, number>>, name: string, what: string): number {
	const value = Object.hasOwn(table, name) ? table[name] : undefined;
	if (value === undefined) throw new Error(`string ${name} is not a valid ${what} for seccomp`);
	return value;
}

/** AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386: those of a guest. */
const GUEST_ARCHITECTURES = [
	[0xc000_003e, "SCMP_ARCH_X86_64"],
	[0x4000_0003, "SCMP_ARCH_X86"],
] as const;
/** Offsets in struct seccomp_data. */
const NUMBER = 0;
const ARCHITECTURE = 4;
/** Numbers of x32 have this bit. */
const X32 = 0x4000_0000;

/**
 * In front of the filter, as runc has it: a system call that is newer than all of a list of permitted ones does not exist
 * (ENOSYS). A C library then takes an older one, which it does not for EPERM.
 */
function newerCalls({ defaultAction, defaultErrnoRet, architectures, syscalls }: Seccomp): Buffer {
	const isPermissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].includes(defaultAction);
	if (isPermissive || defaultErrnoRet === ENOSYS) return Buffer.alloc(0);
	const names = syscalls.flatMap((rule) => rule.names);
	return Buffer.concat(
		GUEST_ARCHITECTURES.filter(([, name]) => name !== "SCMP_ARCH_X86" || architectures.includes(name)).map(
			([token, name]) => {
				const newest = Math.max(...names.map((call) => systemCallNumber(architecture(name), call)));
				return newest < 0 ? Buffer.alloc(0) : refuseAbove(token, newest);
			},
		),
	);
}

function refuseAbove(token: number, newest: number): Buffer {
	return program([
		["load", ARCHITECTURE],
		["equal", token, 0, 4],
		["load", NUMBER],
		["above", X32 - 1, 2, 0],
		["above", newest, 0, 1],
		["return", NUMBERED.SCMP_ACT_ERRNO! + ENOSYS],
	]);
}

/** BPF_LD|BPF_W|BPF_ABS and others, of <linux/bpf_common.h>. */
const OPCODES = { load: 0x20, equal: 0x15, above: 0x25, return: 0x06 } as const;
type Instruction = readonly [name: keyof typeof OPCODES, value: number, skipIfTrue?: number, skipIfFalse?: number];

/** struct sock_filter of each. */
function program(instructions: readonly Instruction[]): Buffer {
	return Buffer.concat(
		instructions.map(([name, value, skipIfTrue = 0, skipIfFalse = 0]) => {
			const bytes = Buffer.from([OPCODES[name], 0, skipIfTrue, skipIfFalse, 0, 0, 0, 0]);
			bytes.writeUInt32LE(value, 4);
			return bytes;
		}),
	);
}

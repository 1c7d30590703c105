/*
 * libseccomp, which compiles rules about system calls to a program for the kernel's filter (seccomp_init(3) and others).
 */
import { fstatSync, readSync } from "node:fs";
import { koffi } from "./koffi.ts";
import { close, createMemoryFile, errnoNameOf } from "./libc.ts";

/** A condition on one of a system call's arguments: struct scmp_arg_cmp. */
export interface Comparison {
	/** Of the argument, 0 to 5. */
	index: number;
	/** enum scmp_compare, 1 to 7. */
	operator: number;
	value: bigint;
	/** What the masked argument is compared with, for SCMP_CMP_MASKED_EQ. */
	second: bigint;
}

interface Library {
	init(action: number): unknown;
	release(filter: unknown): void;
	resolve(architecture: number, name: string): number;
	architectureOf(name: string): number;
	addArchitecture(filter: unknown, architecture: number): number;
	addRule(...rule: [filter: unknown, action: number, number: number, count: number, comparisons: Uint8Array]): number;
	exportTo(filter: unknown, fd: number): number;
}

/** The architecture that libseccomp was built for, SCMP_ARCH_NATIVE. */
export const NATIVE = 0;
const EEXIST = 17;
/** sizeof(struct scmp_arg_cmp) */
const COMPARISON_BYTES = 24;

let loaded: Library | undefined;

/** @throws Error when the host does not have it */
function library(): Library {
	if (loaded !== undefined) return loaded;
	const lib = load("libseccomp.so.2");
	loaded = {
		init: lib.func("void *seccomp_init(uint32_t action)"),
		release: lib.func("void seccomp_release(void *filter)"),
		resolve: lib.func("int seccomp_syscall_resolve_name_arch(uint32_t architecture, const char *name)"),
		architectureOf: lib.func("uint32_t seccomp_arch_resolve_name(const char *name)"),
		addArchitecture: lib.func("int seccomp_arch_add(void *filter, uint32_t architecture)"),
		addRule: lib.func(
			"int seccomp_rule_add_array(void *filter, uint32_t action, int number, unsigned int count, const void *comparisons)",
		),
		exportTo: lib.func("int seccomp_export_bpf(void *filter, int fd)"),
	} as Library;
	return loaded;
}

/** koffi's own words hold "No such file or directory", which callers of the runtime take for a missing program. */
function load(name: string) {
	try {
		return koffi().load(name);
	} catch (cause) {
		throw new Error(`${name} cannot be loaded (Debian: libseccomp2)`, { cause });
	}
}

/** The token of an architecture by its name in libseccomp: "x86_64". 0 for one that it does not know. */
export function architectureOf(name: string): number {
	return library().architectureOf(name);
}

/** The number of a system call; negative when the architecture does not have it, -1 when none has. */
export function systemCallNumber(architecture: number, name: string): number {
	return library().resolve(architecture, name);
}

/** Rules that are being collected. The caller closes it. */
export class SystemCallRules implements Disposable {
	readonly #filter: unknown;

	/** @param action for what no rule names, SCMP_ACT_*. @throws Error when libseccomp is not there, or knows no such action */
	constructor(action: number) {
		this.#filter = library().init(action);
		if (this.#filter === null) throw new Error(`libseccomp knows no action ${action}`);
	}

	/** System calls of an architecture besides the native one. */
	addArchitecture(architecture: number): void {
		const result = library().addArchitecture(this.#filter, architecture);
		if (result !== -EEXIST) check("add an architecture", result);
	}

	/** An action for a system call when all comparisons are true. */
	add(action: number, number: number, comparisons: readonly Comparison[]): void {
		const bytes = Buffer.alloc(COMPARISON_BYTES * comparisons.length);
		for (const [i, { index, operator, value, second }] of comparisons.entries()) {
			const at = COMPARISON_BYTES * i;
			bytes.writeUInt32LE(index, at);
			bytes.writeUInt32LE(operator, at + 4);
			bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at + 8);
			bytes.writeBigUInt64LE(BigInt.asUintN(64, second), at + 16);
		}
		check("add a rule", library().addRule(this.#filter, action, number, comparisons.length, bytes));
	}

	/** The program: struct sock_filter, eight bytes each. */
	compile(): Buffer {
		const fd = createMemoryFile("seccomp");
		check("make a memory file", fd);
		try {
			check("export the filter", library().exportTo(this.#filter, fd));
			const program = Buffer.alloc(fstatSync(fd).size);
			readSync(fd, program, 0, program.length, 0);
			return program;
		} finally {
			close(fd);
		}
	}

	[Symbol.dispose](): void {
		library().release(this.#filter);
	}
}

function check(what: string, result: number): void {
	if (result < 0) throw new Error(`cannot ${what}: ${errnoNameOf(-result)}`);
}

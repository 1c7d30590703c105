/*
 * The native helper's functions, as native/tsvmm.h declares them. Only this file loads the addon. Only files of host/
 * call these functions, and wrap them. A function that fails throws an Error whose `code` is the errno's name, unless
 * it is said to return a negative errno.
 *
 * Ownership: `xCreate` returns an opaque handle, which must be given to `xDestroy` once. When the owner of an
 * ArrayBuffer is destroyed, the buffer is detached (length 0). So a late access throws and does not touch freed memory.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { errnoName, HostError } from "../base/errors.ts";
import { array, struct } from "../base/struct.ts";
import { loadAddon } from "./addon.ts";

/**
 * An opaque handle of the helper. It knows the type of its object, and is empty once that is destroyed. A handle of
 * another type throws ERR_INVALID_ARG_TYPE, an empty one ERR_INVALID_STATE.
 */
export type Handle = { readonly __handle: unique symbol };

export const ABI_VERSION = 10;

/** How the run loop answers accesses to an address without TypeScript. */
export const REGISTER_POSTED_WRITE = 0; /* writes are queued in the posted ring, the vCPU runs on */
export const REGISTER_SHADOW_READ = 1; /* reads answer with the shadow word */
export const REGISTER_ACK_WRITE = 2; /* writes atomically clear the written bits in the shadow word */

/** State words of a vCPU in the `states` buffer of a run loop. */
export const VCPU_RUNNING = 0;
export const VCPU_EXITED = 1; /* waits for TypeScript: see kvm_run, then vcpuResume */
export const VCPU_FAILED = 2; /* KVM_RUN failed: `errnos` has the errno; the thread has ended */
export const VCPU_STOPPED = 3; /* no thread */

export const MAX_VCPUS = 64;
export const SHADOW_WORDS = 1024;
export const POSTED_ENTRIES = 1024;
export const MAX_REGISTERS = 512;

/** A write that did not stop its vCPU. */
export const posted_entry = struct("posted_entry", {
	address: "u64",
	value: "u32",
	size: "u16",
	pio: "u8",
	vcpu: "u8",
});

/** Indices run freely; entry i is at i mod POSTED_ENTRIES. TypeScript writes `head`, vCPU threads write `tail`. */
export const posted_ring = struct("posted_ring", {
	head: "u32",
	pad1: array("u32", 15),
	tail: "u32",
	pad2: array("u32", 15),
	entries: array(posted_entry, POSTED_ENTRIES),
});

/** `op` of an io_submission. */
export const IO_READV = 0;
export const IO_WRITEV = 1;
export const IO_FDATASYNC = 2;
export const IO_PUNCH_HOLE = 3; /* offset, length: deallocates; reads give zeroes */
export const IO_ZERO_RANGE = 4; /* offset, length: zeroes, stays allocated */

/** When the reads and writes of an I/O engine are done. */
export const IO_LATER = 0; /* by the host's asynchronous I/O */
export const IO_IF_CACHED = 1; /* in ioSubmit, those that do not wait for a disk (RWF_NOWAIT) */
export const IO_AT_ONCE = 2; /* in ioSubmit: the files are in memory */

export const IO_IOVECS = 8192;

export const io_submission = struct("io_submission", {
	op: "u32",
	token: "u32",
	fd: "u32",
	iov_count: "u32",
	offset: "u64",
	length: "u64",
	iov_start: "u32",
	pad: "u32",
});

/** `result`: bytes, 0, or a negative errno. */
export const io_completion = struct("io_completion", { token: "u32", result: "s32" });

/** A system call by its number, for a thread of the helper. `result`: or a negative errno. */
export const call_entry = struct("call_entry", {
	arguments: array("u64", 6),
	result: "s64",
	number: "u32",
	opens: "u32",
	fsuid: "u32",
	fsgid: "u32",
});

/** `fsuid` of a call that acts as this process. */
export const CALL_AS_SELF = 0xffff_ffff;

export interface Native {
	readonly abiVersion: number;

	/* Guest RAM: one mapping at a multiple of 2 MiB, seen through windows: pairs of offset and length. `shared`: of a
	 * memfd `fd`, which is the mapping's; else private, and `fd` is -1. `image`: a file with the first content of private
	 * memory, or -1. ramUnmap empties the windows at once; the memory
	 * stays until no request of an I/O engine may touch it. */
	ramMap(
		sizeBytes: number,
		windows: Float64Array,
		shared: boolean,
		image: number,
	): { ram: Handle; hva: number; windows: ArrayBuffer[]; fd: number };
	/** Lays `parts` of files, triples of descriptor, offset and length, over private memory: the first `mapped` of them are mapped, the others read. */
	ramOverlay(ram: Handle, parts: Float64Array, mapped: number): void;
	/** Reads `parts` of private memory, pairs of offset and length, on a thread of libuv, until all is read or it is unmapped. An error of the host is not told. */
	ramPrefetch(ram: Handle, parts: Float64Array): void;
	ramUnmap(ram: Handle): void;

	/* The run loop: one thread per vCPU in KVM_RUN. `onWake` runs on the JavaScript thread when a vCPU has exited or
	 * the posted ring has entries (many wakes may become one). */
	loopCreate(
		maxVcpus: number,
		onWake: () => void,
	): {
		loop: Handle;
		/** Int32 per vCPU: VCPU_*. */
		states: ArrayBuffer;
		/** Int32 per vCPU: errno of a failed KVM_RUN. */
		errnos: ArrayBuffer;
		/** SHADOW_WORDS Int32, for REGISTER_SHADOW_READ and REGISTER_ACK_WRITE; use Atomics. */
		shadow: ArrayBuffer;
		/** A posted_ring. */
		posted: ArrayBuffer;
	};
	loopRegister(loop: Handle, pio: boolean, address: number, size: number, kind: number, word: number): void;
	/** Duplicates the fd, maps kvm_run and starts the thread. Returns kvm_run. */
	vcpuStart(loop: Handle, index: number, vcpuFd: number, runBytes: number): ArrayBuffer;
	/** Hands a VCPU_EXITED vCPU back to its thread. */
	vcpuResume(loop: Handle, index: number): void;
	/** Makes a vCPU exit with KVM_EXIT_INTR soon. Before vcpuStart: as soon as it runs. */
	vcpuKick(loop: Handle, index: number): void;
	/** The host has a processor besides those of the vCPUs, and this process has no other loop. */
	loopMayPoll(loop: Handle): boolean;
	/** Stops all threads and waits for their end. onWake is not called after it. */
	loopStop(loop: Handle): void;
	loopDestroy(loop: Handle): void;

	/* Readiness of an fd on the JavaScript thread (uv_poll). events: 1 readable, 2 writable. `drain`: fd is an eventfd,
	 * read it before the callback. Level-triggered; does not keep the process alive. */
	pollCreate(fd: number, events: number, drain: boolean, onReady: (events: number) => void): Handle;
	pollSet(poll: Handle, events: number): void;
	pollDestroy(poll: Handle): void;

	/*
	 * Descriptors that Node does not know of. fdKeep lets one be closed when this thread's environment ends. fdForget
	 * undoes that and fdClose closes it. One of the two must come before anybody else closes it.
	 */
	fdKeep(fd: number): void;
	fdForget(fd: number): void;
	/** Ignores errors. */
	fdClose(fd: number): void;

	/** Kept until fdClose. */
	eventfdCreate(): number;
	eventfdSignal(fd: number): void;

	/** readv/writev on host addresses; the number of bytes, or a negative errno. `count` entries of each array. */
	readv(fd: number, hvas: Float64Array, lengths: Uint32Array, count: number): number;
	writev(fd: number, hvas: Float64Array, lengths: Uint32Array, count: number): number;

	/* System calls on threads of the helper.
	 * `entries`: `count` x call_entry; `memory`: `count` x `slotBytes`, at `address`, for what their arguments point to.
	 * onComplete says that there is something to reap. */
	callsCreate(
		count: number,
		slotBytes: number,
		onComplete: () => void,
	): {
		calls: Handle;
		entries: ArrayBuffer;
		/** `count` x u32. */
		finished: ArrayBuffer;
		memory: ArrayBuffer;
		address: number;
	};
	/** Has entry `index` performed by a thread. */
	callsSubmit(calls: Handle, index: number): void;
	/** Performs entry `index` now, on this thread; its result. */
	callsNow(calls: Handle, index: number): number;
	/** Moves the numbers of the entries that are done to `finished`; how many. */
	callsReap(calls: Handle): number;
	/** Does not wait: what is in flight ends untold, and the descriptors that it opens are closed. */
	callsDestroy(calls: Handle): void;

	/* Asynchronous file I/O by io_uring, or by libuv's threads where io_uring is refused or `forceThreads` is set.
	 * `submissions`: `entries` x io_submission; at most `entries` may be in flight
	 * `iovecs`: IO_IOVECS x {u64 base, u64 len}, free for reuse after ioSubmit returned
	 * `completions`: `entries` x io_completion; ioReap says how many it has put there.
	 * onComplete says that there is something to reap; after ioSubmit there may be already. */
	ioCreate(
		entries: number,
		forceThreads: boolean,
		when: number,
		onComplete: () => void,
	): {
		io: Handle;
		submissions: ArrayBuffer;
		iovecs: ArrayBuffer;
		completions: ArrayBuffer;
		engine: "io_uring" | "threads";
	};
	/**
	 * How many requests the host took, from the first one on, or a negative errno when it took none. The others were not
	 * submitted.
	 */
	ioSubmit(io: Handle, count: number): number;
	/** Moves finished requests to `completions`. Returns their number. */
	ioReap(io: Handle): number;
	/** Cancels reads that are not done yet, where the host can. Each still completes. */
	ioCancelReads(io: Handle): void;
	/** Does not wait. Requests in flight end without a report. */
	ioDestroy(io: Handle): void;

	/* Terminal: raw mode, restored by terminalRestore, at exit and on fatal signals. */
	terminalRaw(fd: number): void;
	terminalRestore(): void;
}

const require = createRequire(import.meta.url);
let loaded: Native | undefined;
let root: string | undefined;

/** The package's root directory. This file is in src/host, dist or dist/lib/host below it; dist has a package.json, too. */
export function packageRoot(): string {
	root ??= packageAbove(dirname(fileURLToPath(import.meta.url)));
	return root;
}

/** The package's root that a directory is in. @throws HostError ERR_NATIVE_MISSING for a part of tsvmm that was moved away from the rest */
export function packageAbove(directory: string): string {
	for (let above = directory; ; above = dirname(above)) {
		if (existsSync(join(above, "binding.gyp"))) return above;
		if (above === dirname(above)) {
			throw new HostError("ERR_NATIVE_MISSING", `Cannot find the package of tsvmm: no binding.gyp above ${directory}`, {
				hint: "Install tsvmm as a whole: npm install tsvmm",
			});
		}
	}
}

/** The command that builds missing parts of tsvmm. A clone and an installed package have different ones. */
export function repairCommand(): string {
	return existsSync(join(packageRoot(), "scripts/setup.mjs")) ? "npm run setup" : "npm rebuild tsvmm";
}

/**
 * The helper, loaded at the first call.
 *
 * @throws HostError when it was not built, or by another version of tsvmm
 */
export function native(): Native {
	loaded ??= load();
	return loaded;
}

function load(): Native {
	const hint = `Build it: ${repairCommand()}; that needs gcc, make and python3`;
	const usual = join(packageRoot(), "prebuilds", `linux-${process.arch}`, "tsvmm.glibc.node");
	let addon: Native;
	try {
		addon = (loadAddon(usual) ?? require("node-gyp-build")(packageRoot())) as Native;
	} catch (cause) {
		/* Otherwise the file exists, but is for another C library or cut short. */
		const missing = errnoName(cause) !== "ERR_DLOPEN_FAILED";
		const found = missing ? "there is no build for this machine" : (cause as Error).message;
		throw new HostError("ERR_NATIVE_MISSING", `Cannot load the native helper: ${found}`, { hint, cause });
	}
	if (addon.abiVersion !== ABI_VERSION) {
		const found = Number.isInteger(addon.abiVersion) ? addon.abiVersion : "unknown";
		throw new HostError(
			"ERR_NATIVE_ABI",
			`Cannot use the native helper: its ABI version is ${found}, ${ABI_VERSION} is needed`,
			{ hint },
		);
	}
	return addon;
}

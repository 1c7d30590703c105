/*
 * The native helper's functions, as native/tsvmm.h declares them: the one place where the addon is loaded. Files of
 * host/ wrap these; nothing outside host/ calls them. Every function throws a HostError-shaped Error with `code` set
 * to the errno name unless it says that it returns a negative errno.
 *
 * Ownership: whatever `xCreate` returns is an opaque handle that must be given to `xDestroy` once. ArrayBuffers of the
 * helper are detached (length 0) when their owner is destroyed, so a late access throws instead of touching freed
 * memory.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** An opaque handle of the helper. */
export type Handle = { readonly __handle: unique symbol };

/** How an address is treated by the vCPU run loop without asking TypeScript. */
export const REGISTER_POSTED_WRITE = 0; /* writes are queued in the posted ring, the vCPU runs on */
export const REGISTER_SHADOW_READ = 1; /* reads answer with the shadow word */
export const REGISTER_ACK_WRITE = 2; /* writes atomically clear the written bits in the shadow word */

/** State words of a vCPU in the `states` buffer of a run loop. */
export const VCPU_RUNNING = 0;
export const VCPU_EXITED = 1; /* waits for TypeScript: see kvm_run, then vcpuResume */
export const VCPU_FAILED = 2; /* KVM_RUN failed: `errnos` has the errno; the thread has ended */
export const VCPU_STOPPED = 3; /* the thread has ended */

export interface Native {
	readonly abiVersion: number;

	/* Guest RAM: one private anonymous mapping, seen through windows of at most `windowBytes` each. */
	ramMap(sizeBytes: number, windowBytes: number): { hva: number; windows: ArrayBuffer[] };
	ramUnmap(hva: number): void;

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
		/** 1024 Int32 shadow words, for REGISTER_SHADOW_READ and REGISTER_ACK_WRITE; use Atomics. */
		shadow: ArrayBuffer;
		/** Posted ring: u32 head (ours), u32 tail (theirs), 8 bytes unused, then 1024 entries {u64 address, u32 value,
		 * u16 size, u8 pio, u8 vcpu}. */
		posted: ArrayBuffer;
	};
	loopRegister(loop: Handle, pio: boolean, address: number, size: number, kind: number, word: number): void;
	/** Maps kvm_run and starts the thread. Returns kvm_run. */
	vcpuStart(loop: Handle, index: number, vcpuFd: number, runBytes: number): ArrayBuffer;
	/** Hands a VCPU_EXITED vCPU back to its thread. */
	vcpuResume(loop: Handle, index: number): void;
	/** Stops all threads and waits for their end; onWake is not called any more. */
	loopStop(loop: Handle): void;
	loopDestroy(loop: Handle): void;

	/* Readiness of an fd on the JavaScript thread (uv_poll). events: 1 readable, 2 writable. `drain`: fd is an eventfd,
	 * read it before the callback. Level-triggered. */
	pollCreate(fd: number, events: number, drain: boolean, onReady: (events: number) => void): Handle;
	pollSet(poll: Handle, events: number): void;
	/** Whether the poll keeps the process alive (it does until told otherwise). */
	pollRef(poll: Handle, keep: boolean): void;
	pollDestroy(poll: Handle): void;

	eventfdCreate(): number;
	eventfdSignal(fd: number): void;
	fdClose(fd: number): void;

	/** readv/writev on host addresses; the number of bytes, or a negative errno. `count` entries of each array. */
	readv(fd: number, hvas: Float64Array, lengths: Uint32Array, count: number): number;
	writev(fd: number, hvas: Float64Array, lengths: Uint32Array, count: number): number;

	/* Asynchronous file I/O by io_uring, or by two threads where io_uring is refused or `forceThreads` is set.
	 * `submissions`: `entries` x {u32 op, u32 token, u32 fd, u32 iovCount, u64 offset, u64 length, u32 iovStart, u32 0}
	 * `iovecs`: 8192 x {u64 base, u64 len}, free for reuse after ioSubmit returned
	 * `completions`: `entries` x {u32 token, s32 result}; onComplete says how many are there; they are gone after it.
	 * op: 0 readv, 1 writev, 2 fdatasync, 3 punch hole, 4 zero range. */
	ioCreate(
		entries: number,
		forceThreads: boolean,
		onComplete: (count: number) => void,
	): {
		io: Handle;
		submissions: ArrayBuffer;
		iovecs: ArrayBuffer;
		completions: ArrayBuffer;
		engine: "io_uring" | "threads";
	};
	ioSubmit(io: Handle, count: number): void;
	/** Waits for everything in flight; completions not yet delivered are dropped. */
	ioDestroy(io: Handle): void;

	/* Terminal: raw mode, restored by terminalRestore, at exit and on fatal signals. */
	terminalRaw(fd: number): void;
	terminalRestore(): void;
	terminalSize(fd: number): { columns: number; rows: number } | undefined;
}

const require = createRequire(import.meta.url);
let loaded: Native | undefined;

/** The package's root folder, from src/host/ as from dist/. */
export function packageRoot(): string {
	const here = fileURLToPath(import.meta.url);
	return here.endsWith(".ts")
		? fileURLToPath(new URL("../..", import.meta.url))
		: fileURLToPath(new URL("..", import.meta.url));
}

/** The helper, loaded at the first call. @throws Error when it was not built */
export function native(): Native {
	loaded ??= require("node-gyp-build")(packageRoot()) as Native;
	return loaded;
}

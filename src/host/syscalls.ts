/*
 * System calls by number: on threads of the helper (`perform`), or at once for those that never wait (`now`). Each call
 * has a slot: an entry for number and arguments, and memory for what the arguments point to.
 *
 *     slot memory:  | first path | second path | data: structs, directory entries, values |
 *
 * There are as many slots as calls in flight; more calls wait for one, in order.
 */
import { constants } from "node:os";
import { ErrnoError } from "../base/errno-error.ts";
import { encodeName } from "../base/file-name.ts";
import { getU64, setU64 } from "../base/u64.ts";
import { close, keep } from "./libc.ts";
import { CALL_AS_SELF, call_entry, type Handle, native } from "./native.ts";
import { SYS_close } from "./syscall-numbers.ts";

const SLOTS = 256;
/** A path of 4095 bytes and its NUL. */
const PATH_BYTES = 4096;
const DATA_AT = 2 * PATH_BYTES;
/** The largest extended attribute there is. */
export const DATA_BYTES = 64 * 1024;
const SLOT_BYTES = DATA_AT + DATA_BYTES;
/** For calls that are made at once. */
const NOW = 0;

/** Who makes a call, as the host sees it; this process when missing. */
export interface Caller {
	readonly uid: number;
	readonly gid: number;
}

/** A system call that is being prepared, in flight, or done. */
export class CallSlot {
	readonly index: number;
	/** Memory for structs and values, and where it lies. */
	readonly data: Buffer;
	readonly view: DataView;
	readonly dataAddress: number;
	readonly #address: number;
	readonly #memory: Buffer;
	readonly #entry: DataView;

	constructor(index: number, memory: ArrayBuffer, address: number, entry: DataView) {
		this.index = index;
		this.#address = address + index * SLOT_BYTES;
		this.#memory = Buffer.from(memory, index * SLOT_BYTES, SLOT_BYTES);
		this.data = this.#memory.subarray(DATA_AT);
		this.view = new DataView(memory, index * SLOT_BYTES + DATA_AT, DATA_BYTES);
		this.dataAddress = this.#address + DATA_AT;
		this.#entry = entry;
	}

	/** The call. Arguments are numbers below 2^53, descriptors, or bigints of 64 bits; missing ones are 0. */
	set(number: number, ...values: (number | bigint)[]): void {
		const entry = this.#entry;
		entry.setUint32(call_entry.number, number, true);
		entry.setUint32(call_entry.opens, 0, true);
		entry.setUint32(call_entry.fsuid, CALL_AS_SELF, true);
		for (let i = 0; i < 6; i++) {
			const value = values[i] ?? 0;
			const at = call_entry.arguments + 8 * i;
			if (typeof value === "bigint") entry.setBigUint64(at, BigInt.asUintN(64, value), true);
			else if (value < 0) entry.setBigInt64(at, BigInt(value), true);
			else setU64(entry, at, value);
		}
	}

	/** The call's result is a descriptor. */
	opens(): void {
		this.#entry.setUint32(call_entry.opens, 1, true);
	}

	/** The call is made as another user. */
	as(caller: Caller | undefined): void {
		if (caller === undefined) return;
		this.#entry.setUint32(call_entry.fsuid, caller.uid, true);
		this.#entry.setUint32(call_entry.fsgid, caller.gid, true);
	}

	/** Puts a path into the slot; its address. @throws ErrnoError ENAMETOOLONG */
	path(path: string, second = false): number {
		const bytes = encodeName(path);
		const at = second ? PATH_BYTES : 0;
		if (bytes.length >= PATH_BYTES) throw ErrnoError.of("ENAMETOOLONG");
		this.#memory.set(bytes, at);
		this.#memory[at + bytes.length] = 0;
		return this.#address + at;
	}

	get result(): number {
		const high = this.#entry.getInt32(call_entry.result + 4, true);
		return high < 0 ? this.#entry.getInt32(call_entry.result, true) : getU64(this.#entry, call_entry.result);
	}
}

interface Waiting {
	readonly slot: CallSlot;
	readonly done: (result: number) => void;
}

export class Syscalls {
	readonly #calls: Handle;
	readonly #finished: Uint32Array;
	readonly #slots: CallSlot[];
	readonly #free: CallSlot[];
	/** By the index of the slot. */
	readonly #inFlight: (Waiting["done"] | undefined)[] = [];
	/** Who waits for a slot. */
	readonly #queue: (() => void)[] = [];
	#open = true;

	/** @throws Error with an errno as `code` when there is not enough memory */
	constructor() {
		const made = native().callsCreate(SLOTS, SLOT_BYTES, () => this.#deliver());
		this.#calls = made.calls;
		this.#finished = new Uint32Array(made.finished);
		this.#slots = Array.from({ length: SLOTS }, (_, i) => {
			const entry = new DataView(made.entries, i * call_entry.sizeof, call_entry.sizeof);
			return new CallSlot(i, made.memory, made.address, entry);
		});
		this.#free = this.#slots.slice(NOW + 1);
	}

	/**
	 * Makes a call on a thread. `take` reads what it has left in the slot.
	 *
	 * @throws ErrnoError its errno
	 */
	async perform<T = void>(prepare: (slot: CallSlot) => void, take?: (slot: CallSlot, result: number) => T): Promise<T> {
		while (this.#free.length === 0) await new Promise<void>((resolve) => this.#queue.push(resolve));
		if (!this.#open) throw ErrnoError.of("EBADF");
		const slot = this.#free.pop()!;
		try {
			prepare(slot);
			const result = await new Promise<number>((resolve) => {
				this.#inFlight[slot.index] = resolve;
				native().callsSubmit(this.#calls, slot.index);
			});
			if (result < 0) throw ErrnoError.of(-result);
			return take?.(slot, result) as T;
		} finally {
			this.#free.push(slot);
			this.#queue.shift()?.();
		}
	}

	/** As `perform`, for a call that opens a descriptor: gives it to the caller, who closes it by `close` of host/libc.ts. */
	async performOpen(prepare: (slot: CallSlot) => void): Promise<number> {
		const opening = (slot: CallSlot) => {
			prepare(slot);
			slot.opens();
		};
		return await this.perform(opening, (_, fd) => keep(fd));
	}

	/** Makes a call at once, which must be one that does not wait: its result, or a negative errno. */
	now(prepare: (slot: CallSlot) => void): { result: number; slot: CallSlot } {
		const slot = this.#slots[NOW]!;
		prepare(slot);
		return { result: native().callsNow(this.#calls, NOW), slot };
	}

	/** As `now`, for a call that opens a descriptor. */
	openNow(prepare: (slot: CallSlot) => void): number {
		const { result } = this.now(prepare);
		return result < 0 ? result : keep(result);
	}

	/** Closes a descriptor on a thread; the host may write its file out then. */
	closeLater(fd: number): void {
		let begun = false;
		const prepare = (slot: CallSlot) => {
			begun = true;
			native().fdForget(fd);
			slot.set(SYS_close, fd);
		};
		this.perform(prepare).catch(() => {
			if (!begun) close(fd);
		});
	}

	/** What is in flight fails with EBADF, and its outcome is not known. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		native().callsDestroy(this.#calls);
		for (const done of this.#inFlight.splice(0)) done?.(-constants.errno.EBADF);
		for (const resolve of this.#queue.splice(0)) resolve();
	}

	#deliver(): void {
		const count = native().callsReap(this.#calls);
		for (let i = 0; i < count; i++) {
			const index = this.#finished[i]!;
			const done = this.#inFlight[index];
			this.#inFlight[index] = undefined;
			done?.(this.#slots[index]!.result);
		}
	}
}

/*
 * Breakpoints and watchpoints of one machine. A software breakpoint is an INT3 in the guest's memory; its byte is hidden
 * from readers of this debugger. A hardware breakpoint or watchpoint takes one of the four debug registers, which all vCPUs
 * get (Intel SDM volume 3, chapter 18.2; KVM_SET_GUEST_DEBUG). The guest's own debug registers do nothing meanwhile.
 */
import { StateError, UsageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP } from "../kvm/constants.ts";

/** What a debug register stops at. "access": reads and writes. x86 has none for reads alone. */
export type HardwareKind = "execute" | "write" | "access";

export interface HardwarePoint {
	readonly kind: HardwareKind;
	readonly address: bigint;
	/** 1, 2, 4 or 8, and the address a multiple of it; 1 for "execute". */
	readonly bytes: number;
}

interface SoftwarePoint {
	/** The byte that INT3 stands for. */
	original: number;
	/** Virtual addresses at which it was asked for. */
	readonly addresses: Set<bigint>;
}

const INT3 = 0xcc;
const DEBUG_REGISTERS = 4;
/** GE, and the bit that is always one. */
const DR7_FIXED = 0x600n;
const TYPE_BITS: Readonly<Record<HardwareKind, bigint>> = { execute: 0n, write: 1n, access: 3n };
const LENGTH_BITS: Readonly<Record<number, bigint>> = { 1: 0n, 2: 1n, 4: 3n, 8: 2n };

export class Breakpoints {
	readonly #memory: GuestMemory;
	readonly #software = new Map<number, SoftwarePoint>();
	readonly #hardware: (HardwarePoint | undefined)[] = Array.from({ length: DEBUG_REGISTERS });

	constructor(memory: GuestMemory) {
		this.#memory = memory;
	}

	/** KVM_GUESTDBG_* for a vCPU, 0 when there is nothing to stop at. */
	get control(): number {
		const software = this.#software.size > 0 ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP : 0;
		const hardware = this.#hardware.some(Boolean) ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP : 0;
		return software | hardware;
	}

	/** DR0 to DR7. */
	get debugRegisters(): bigint[] {
		const registers = Array.from({ length: 8 }, () => 0n);
		let dr7 = DR7_FIXED;
		this.#hardware.forEach((point, i) => {
			if (point === undefined) return;
			registers[i] = point.address;
			const condition = TYPE_BITS[point.kind] | (LENGTH_BITS[point.bytes]! << 2n);
			dr7 |= (2n << BigInt(2 * i)) | (condition << BigInt(16 + 4 * i));
		});
		registers[7] = dr7;
		return registers;
	}

	/** Whether INT3 at this guest-physical address is ours. */
	isSoftware(gpa: number | undefined): boolean {
		return gpa !== undefined && this.#software.has(gpa);
	}

	/** Whether one was asked for at this virtual address. The same INT3 may be met at another. */
	isAskedFor(address: bigint): boolean {
		for (const { addresses } of this.#software.values()) if (addresses.has(address)) return true;
		return false;
	}

	/** The point that debug register `i` stops at. */
	hardware(i: number): HardwarePoint | undefined {
		return this.#hardware[i];
	}

	/** Writes INT3 to `gpa`, where `address` is. @throws MemoryAccessError outside RAM */
	addSoftware(address: bigint, gpa: number): void {
		const there = this.#software.get(gpa);
		if (there !== undefined) {
			there.addresses.add(address);
			return;
		}
		const original = this.#memory.u8(gpa);
		this.#memory.setU8(gpa, INT3);
		this.#software.set(gpa, { original, addresses: new Set([address]) });
	}

	/** Takes one out of memory again, unless the guest has written something else there. False: there is none. */
	removeSoftware(address: bigint): boolean {
		for (const [gpa, { original, addresses }] of this.#software) {
			if (!addresses.delete(address)) continue;
			if (addresses.size > 0) return true;
			this.#software.delete(gpa);
			this.#swap(gpa, INT3, original);
			return true;
		}
		return false;
	}

	/**
	 * Takes a debug register.
	 *
	 * @throws UsageError ERR_DEBUG_BREAKPOINT for a size or an alignment that no register has, StateError
	 *   ERR_DEBUG_BREAKPOINT when all four are taken
	 */
	addHardware(point: HardwarePoint): void {
		const what = `Cannot set a breakpoint at 0x${point.address.toString(16)}`;
		const fits = point.bytes in LENGTH_BITS && point.address % BigInt(point.bytes) === 0n;
		if (!fits || (point.kind === "execute" && point.bytes !== 1)) {
			const found = `${point.bytes} bytes there fit no debug register`;
			throw new UsageError("ERR_DEBUG_BREAKPOINT", `${what}: ${found}`, {
				hint: "Choose 1, 2, 4 or 8 bytes at a multiple of that",
			});
		}
		if (this.#find(point) >= 0) return;
		const free = this.#hardware.indexOf(undefined);
		if (free < 0) {
			throw new StateError("ERR_DEBUG_BREAKPOINT", `${what}: all four debug registers are taken`, {
				hint: "Remove a hardware breakpoint or watchpoint",
			});
		}
		this.#hardware[free] = point;
	}

	/** False: there is none such. */
	removeHardware(point: HardwarePoint): boolean {
		const at = this.#find(point);
		if (at >= 0) this.#hardware[at] = undefined;
		return at >= 0;
	}

	/** All of them. */
	clear(): void {
		for (const [gpa, { original }] of this.#software) this.#swap(gpa, INT3, original);
		this.#software.clear();
		this.#hardware.fill(undefined);
	}

	/** Takes all INT3 out of memory. Returns what puts them back. */
	lift(): () => void {
		for (const [gpa, { original }] of this.#software) this.#swap(gpa, INT3, original);
		return () => {
			for (const [gpa, { original }] of this.#software) this.#swap(gpa, original, INT3);
		};
	}

	/** Shows `bytes`, which were read at `gpa`, as they were without breakpoints. */
	hide(gpa: number, bytes: Uint8Array): void {
		for (const [at, { original }] of this.#software) {
			if (at >= gpa && at < gpa + bytes.length && bytes[at - gpa] === INT3) bytes[at - gpa] = original;
		}
	}

	/** Called after bytes were written at `gpa`: breakpoints there stay. */
	written(gpa: number, bytes: number): void {
		for (const [at, point] of this.#software) {
			if (at < gpa || at >= gpa + bytes) continue;
			point.original = this.#memory.u8(at);
			this.#memory.setU8(at, INT3);
		}
	}

	#swap(gpa: number, from: number, to: number): void {
		if (this.#memory.contains(gpa, 1) && this.#memory.u8(gpa) === from) this.#memory.setU8(gpa, to);
	}

	#find({ kind, address, bytes }: HardwarePoint): number {
		return this.#hardware.findIndex(
			(one) => one !== undefined && one.kind === kind && one.address === address && one.bytes === bytes,
		);
	}
}

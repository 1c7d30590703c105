/*
 * A vCPU's file descriptor: its registers and state, one method per ioctl, named after it (KVM api.rst §4). State is a
 * view of its struct (structs.ts); what has a part of variable length, CPUID and XSAVE, is a Buffer. KVM_RUN itself is
 * the native run loop's: these methods are for a vCPU that has not started or is stopped at an exit; KVM makes callers
 * wait while it runs.
 */

import { HostError, IoctlError } from "../base/errors.ts";
import { addressOf, close } from "../host/libc.ts";
import { call, KvmFd, mustHold } from "./call.ts";
import { KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET } from "./constants.ts";
import type { IoctlName } from "./ioctls.ts";
import {
	type KvmDebugregs,
	type KvmFpu,
	type KvmLapicState,
	type KvmRegs,
	type KvmSregs,
	type KvmVcpuEvents,
	type KvmXcrs,
	structView,
} from "./struct-view.ts";
import {
	kvm_cpuid_entry2,
	kvm_cpuid2,
	kvm_debugregs,
	kvm_device_attr,
	kvm_fpu,
	kvm_guest_debug,
	kvm_lapic_state,
	kvm_mp_state,
	kvm_msr_entry,
	kvm_msrs,
	kvm_regs,
	kvm_sregs,
	kvm_translation,
	kvm_vcpu_events,
	kvm_xcrs,
	kvm_xsave,
} from "./structs.ts";

/** KVM takes fewer than 256 at once (MAX_IO_MSRS in its x86.c). */
const MAX_MSRS = 255;

/**
 * The file descriptor of one vCPU. Every method throws IoctlError, and StateError ERR_KVM_CLOSED after `close`; its owner
 * closes it.
 */
export class Vcpu {
	/** Size of the whole extended state, in bytes: what `getXsave2` gives, and 4096 at least. */
	readonly xsaveBytes: number;
	readonly #fd: KvmFd;
	/** APIC ID. */
	readonly id: number;

	/** Made by Vm.createVcpu, which gives it the descriptor. */
	constructor(fd: number, id: number, xsaveBytes: number = kvm_xsave.sizeof) {
		this.xsaveBytes = xsaveBytes;
		this.#fd = new KvmFd(fd, `vCPU ${id}`);
		this.id = id;
	}

	/** The file descriptor. @throws StateError ERR_KVM_CLOSED after `close` */
	get fd(): number {
		return this.#fd.number;
	}

	/** KVM_GET_REGS. */
	getRegs(): KvmRegs {
		return structView(kvm_regs, this.#get("KVM_GET_REGS", kvm_regs.sizeof));
	}
	/** KVM_SET_REGS. */
	setRegs(regs: KvmRegs): void {
		call(this.fd, "KVM_SET_REGS", regs.bytes);
	}
	/** KVM_GET_SREGS. */
	getSregs(): KvmSregs {
		return structView(kvm_sregs, this.#get("KVM_GET_SREGS", kvm_sregs.sizeof));
	}
	/** KVM_SET_SREGS. */
	setSregs(sregs: KvmSregs): void {
		call(this.fd, "KVM_SET_SREGS", sregs.bytes);
	}
	/** KVM_GET_FPU. */
	getFpu(): KvmFpu {
		return structView(kvm_fpu, this.#get("KVM_GET_FPU", kvm_fpu.sizeof));
	}
	/** KVM_SET_FPU. */
	setFpu(fpu: KvmFpu): void {
		call(this.fd, "KVM_SET_FPU", fpu.bytes);
	}
	/** KVM_GET_LAPIC. */
	getLapic(): KvmLapicState {
		return structView(kvm_lapic_state, this.#get("KVM_GET_LAPIC", kvm_lapic_state.sizeof));
	}
	/** KVM_SET_LAPIC. */
	setLapic(lapic: KvmLapicState): void {
		call(this.fd, "KVM_SET_LAPIC", lapic.bytes);
	}
	/** KVM_GET_VCPU_EVENTS. */
	getVcpuEvents(): KvmVcpuEvents {
		return structView(kvm_vcpu_events, this.#get("KVM_GET_VCPU_EVENTS", kvm_vcpu_events.sizeof));
	}
	/** KVM_SET_VCPU_EVENTS. */
	setVcpuEvents(events: KvmVcpuEvents): void {
		call(this.fd, "KVM_SET_VCPU_EVENTS", events.bytes);
	}
	/** KVM_GET_XSAVE: a struct kvm_xsave, which has no room for states beyond 4096 bytes, such as that of AMX. */
	getXsave(): Buffer {
		return this.#get("KVM_GET_XSAVE", kvm_xsave.sizeof);
	}
	/** KVM_GET_XSAVE2: a struct kvm_xsave of `xsaveBytes`; needs KVM_CAP_XSAVE2 (Linux 5.17). */
	getXsave2(): Buffer {
		return this.#get("KVM_GET_XSAVE2", this.xsaveBytes);
	}
	/** KVM_SET_XSAVE: what getXsave or getXsave2 gave; what a shorter one leaves out gets its initial value. */
	setXsave(xsave: Buffer): void {
		mustHold("KVM_SET_XSAVE", xsave, kvm_xsave.sizeof);
		const whole = Buffer.alloc(Math.max(this.xsaveBytes, xsave.length));
		xsave.copy(whole);
		call(this.fd, "KVM_SET_XSAVE", whole);
	}
	/** KVM_GET_XCRS. */
	getXcrs(): KvmXcrs {
		return structView(kvm_xcrs, this.#get("KVM_GET_XCRS", kvm_xcrs.sizeof));
	}
	/** KVM_SET_XCRS. */
	setXcrs(xcrs: KvmXcrs): void {
		call(this.fd, "KVM_SET_XCRS", xcrs.bytes);
	}
	/** KVM_GET_DEBUGREGS. */
	getDebugregs(): KvmDebugregs {
		return structView(kvm_debugregs, this.#get("KVM_GET_DEBUGREGS", kvm_debugregs.sizeof));
	}
	/** KVM_SET_DEBUGREGS. */
	setDebugregs(debugregs: KvmDebugregs): void {
		call(this.fd, "KVM_SET_DEBUGREGS", debugregs.bytes);
	}

	/** KVM_GET_MP_STATE: KVM_MP_STATE_*. */
	getMpState(): number {
		return this.#get("KVM_GET_MP_STATE", kvm_mp_state.sizeof).readUInt32LE(kvm_mp_state.mp_state);
	}
	/** KVM_SET_MP_STATE to KVM_MP_STATE_*. */
	setMpState(state: number): void {
		const argument = Buffer.alloc(kvm_mp_state.sizeof);
		argument.writeUInt32LE(state, kvm_mp_state.mp_state);
		call(this.fd, "KVM_SET_MP_STATE", argument);
	}

	/** KVM_SET_CPUID2 with a struct kvm_cpuid2 and its entries; before the first KVM_RUN. */
	setCpuid2(cpuid: Buffer): void {
		mustHold("KVM_SET_CPUID2", cpuid, kvm_cpuid2.sizeof);
		const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
		mustHold("KVM_SET_CPUID2", cpuid, kvm_cpuid2.entries + count * kvm_cpuid_entry2.sizeof);
		call(this.fd, "KVM_SET_CPUID2", cpuid);
	}
	/** KVM_GET_CPUID2: a struct kvm_cpuid2 with its entries. */
	getCpuid2(): Buffer {
		const room = 256;
		const cpuid = Buffer.alloc(kvm_cpuid2.entries + room * kvm_cpuid_entry2.sizeof);
		cpuid.writeUInt32LE(room, kvm_cpuid2.nent);
		call(this.fd, "KVM_GET_CPUID2", cpuid);
		const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
		return cpuid.subarray(0, kvm_cpuid2.entries + count * kvm_cpuid_entry2.sizeof);
	}

	/** KVM_GET_MSRS: the values of those of `indices` that KVM knows and can read, any number of them. */
	getMsrs(indices: readonly number[]): Map<number, bigint> {
		const values = new Map<number, bigint>();
		for (let at = 0; at < indices.length; ) {
			const part = indices.slice(at, at + MAX_MSRS);
			const msrs = packMsrs(part.map((index) => [index, 0n]));
			const count = call(this.fd, "KVM_GET_MSRS", msrs);
			for (let i = 0; i < count; i++) {
				const entry = kvm_msrs.entries + i * kvm_msr_entry.sizeof;
				values.set(part[i]!, msrs.readBigUInt64LE(entry + kvm_msr_entry.data));
			}
			/* KVM stops at the first that it cannot read. */
			at += count < part.length ? count + 1 : count;
		}
		return values;
	}
	/**
	 * KVM_SET_MSRS in order, any number of them.
	 *
	 * @throws HostError ERR_KVM_MSR when KVM does not know one or refuses its value; those before it are set
	 */
	setMsrs(values: Iterable<readonly [index: number, value: bigint]>): void {
		const all = [...values];
		for (let at = 0; at < all.length; at += MAX_MSRS) {
			const part = all.slice(at, at + MAX_MSRS);
			const count = call(this.fd, "KVM_SET_MSRS", packMsrs(part));
			if (count === part.length) continue;
			const [index, value] = part[count]!;
			const what = `Cannot set MSR 0x${index.toString(16)} of vCPU ${this.id} to 0x${value.toString(16)}`;
			throw new HostError("ERR_KVM_MSR", `${what}: KVM does not know it or refuses the value`);
		}
	}

	/** KVM_NMI. */
	nmi(): void {
		call(this.fd, "KVM_NMI");
	}

	/** KVM_GET_TSC_KHZ. */
	getTscKhz(): number {
		return call(this.fd, "KVM_GET_TSC_KHZ");
	}
	/** KVM_SET_TSC_KHZ. */
	setTscKhz(kHz: number): void {
		call(this.fd, "KVM_SET_TSC_KHZ", kHz);
	}

	/**
	 * What KVM adds to the host's TSC for the guest's (KVM_VCPU_TSC_OFFSET, Linux 5.16); undefined when it does not tell.
	 */
	getTscOffset(): bigint | undefined {
		const value = Buffer.alloc(8);
		try {
			call(this.fd, "KVM_GET_DEVICE_ATTR", tscOffset(value));
		} catch (error) {
			if (error instanceof IoctlError) return undefined;
			throw error;
		}
		return value.readBigUInt64LE();
	}
	/** Sets what `getTscOffset` gives. */
	setTscOffset(offset: bigint): void {
		const value = Buffer.alloc(8);
		value.writeBigUInt64LE(BigInt.asUintN(64, offset));
		call(this.fd, "KVM_SET_DEVICE_ATTR", tscOffset(value));
	}

	/** KVM_KVMCLOCK_CTRL: tells the guest's watchdogs that it was paused. */
	kvmclockCtrl(): void {
		call(this.fd, "KVM_KVMCLOCK_CTRL");
	}

	/** KVM_TRANSLATE: the guest-physical address of a guest-virtual one, undefined when it is not mapped. */
	translate(address: bigint): number | undefined {
		const argument = Buffer.alloc(kvm_translation.sizeof);
		argument.writeBigUInt64LE(address, kvm_translation.linear_address);
		call(this.fd, "KVM_TRANSLATE", argument);
		if (argument.readUInt8(kvm_translation.valid) === 0) return undefined;
		return Number(argument.readBigUInt64LE(kvm_translation.physical_address));
	}

	/** KVM_SET_GUEST_DEBUG with KVM_GUESTDBG_* and, for hardware breakpoints, DR0 to DR7. */
	setGuestDebug(control: number, debugRegisters: readonly bigint[] = []): void {
		const argument = Buffer.alloc(kvm_guest_debug.sizeof);
		argument.writeUInt32LE(control, kvm_guest_debug.control);
		debugRegisters.forEach((value, i) => {
			argument.writeBigUInt64LE(value, kvm_guest_debug.arch + 8 * i);
		});
		call(this.fd, "KVM_SET_GUEST_DEBUG", argument);
	}

	/** Closes the vCPU; a run loop has a descriptor of its own. */
	close(): void {
		const fd = this.#fd.take();
		if (fd !== undefined) close(fd);
	}

	#get(name: IoctlName, sizeBytes: number): Buffer {
		const state = Buffer.alloc(sizeBytes);
		call(this.fd, name, state);
		return state;
	}
}

/** A struct kvm_device_attr for a vCPU's TSC offset, which is in `value`. */
function tscOffset(value: Buffer): Buffer {
	const attribute = Buffer.alloc(kvm_device_attr.sizeof);
	attribute.writeUInt32LE(KVM_VCPU_TSC_CTRL, kvm_device_attr.group);
	attribute.writeBigUInt64LE(BigInt(KVM_VCPU_TSC_OFFSET), kvm_device_attr.attr);
	attribute.writeBigUInt64LE(addressOf(value), kvm_device_attr.addr);
	return attribute;
}

function packMsrs(values: readonly (readonly [index: number, value: bigint])[]): Buffer {
	const msrs = Buffer.alloc(kvm_msrs.entries + values.length * kvm_msr_entry.sizeof);
	msrs.writeUInt32LE(values.length, kvm_msrs.nmsrs);
	values.forEach(([index, value], i) => {
		const at = kvm_msrs.entries + i * kvm_msr_entry.sizeof;
		msrs.writeUInt32LE(index, at + kvm_msr_entry.index);
		msrs.writeBigUInt64LE(value, at + kvm_msr_entry.data);
	});
	return msrs;
}

/*
 * All state of a stopped vCPU that KVM gives and takes, as plain data (base/state.ts). It is set in an order in which each
 * part finds what it depends on: what a register means depends on CPUID, then on XCR0 and EFER; the TSC deadline needs the
 * local APIC's mode.
 */
import { type SavedState, StateReader } from "../base/state.ts";
import {
	type KvmDebugregs,
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
	kvm_lapic_state,
	kvm_regs,
	kvm_sregs,
	kvm_vcpu_events,
	kvm_xcrs,
	kvm_xsave,
} from "./structs.ts";
import type { Kvm } from "./system.ts";
import type { Vcpu } from "./vcpu.ts";

/** A vCPU's state, checked as far as its form goes. KVM checks the values. */
export interface VcpuState {
	/** A struct kvm_cpuid2 with its entries. */
	readonly cpuid: Buffer;
	/** 0 where the host's KVM does not tell. */
	readonly tscKhz: number;
	/** What KVM adds to the host's TSC, modulo 2^64; undefined where it does not tell. */
	readonly tscOffset: bigint | undefined;
	/** KVM_MP_STATE_* */
	readonly mpState: number;
	readonly regs: KvmRegs;
	readonly sregs: KvmSregs;
	readonly xcrs: KvmXcrs;
	/** A struct kvm_xsave of any size. */
	readonly xsave: Buffer;
	readonly debugregs: KvmDebugregs;
	readonly lapic: KvmLapicState;
	readonly msrs: ReadonlyMap<number, bigint>;
	readonly events: KvmVcpuEvents;
}

/** More than any CPU has. */
const MAX_XSAVE_BYTES = 1 << 20;
const MAX_CPUID_ENTRIES = 256;
const MAX_MSRS = 4096;
const MSR_BYTES = 12;
const MAX_TSC_KHZ = 100_000_000;
const MAX_MP_STATE = 10;

/** The state of a vCPU that does not run and has no access half done. @throws IoctlError */
export function saveVcpu(kvm: Kvm, vcpu: Vcpu): SavedState {
	const tscOffset = vcpu.getTscOffset();
	return {
		version: 1,
		cpuid: copy(vcpu.getCpuid2()),
		tscKhz: kvm.checkExtension("KVM_CAP_GET_TSC_KHZ") > 0 ? vcpu.getTscKhz() : 0,
		...(tscOffset === undefined ? {} : { tscOffset }),
		/* First: KVM then moves a pending INIT or SIPI into the other states. */
		mpState: vcpu.getMpState(),
		regs: copy(vcpu.getRegs().bytes),
		sregs: copy(vcpu.getSregs().bytes),
		xcrs: copy(vcpu.getXcrs().bytes),
		xsave: copy(vcpu.xsaveBytes > kvm_xsave.sizeof ? vcpu.getXsave2() : vcpu.getXsave()),
		debugregs: copy(vcpu.getDebugregs().bytes),
		lapic: copy(vcpu.getLapic().bytes),
		msrs: packMsrs(vcpu.getMsrs(kvm.getMsrIndexList())),
		events: copy(vcpu.getVcpuEvents().bytes),
	};
}

/** @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_VERSION */
export function readVcpu(where: string, saved: unknown): VcpuState {
	const reader = new StateReader(where, saved).version(1);
	const bytes = (field: string, least: number, most = least) => Buffer.from(reader.bytes(field, least, most));
	const cpuid = bytes("cpuid", kvm_cpuid2.entries, kvm_cpuid2.entries + MAX_CPUID_ENTRIES * kvm_cpuid_entry2.sizeof);
	const entries = cpuid.readUInt32LE(kvm_cpuid2.nent);
	if (cpuid.length !== kvm_cpuid2.entries + entries * kvm_cpuid_entry2.sizeof)
		throw reader.refuse(`its CPUID has ${cpuid.length} bytes for ${entries} entries`);
	return {
		cpuid,
		tscKhz: reader.integer("tscKhz", 0, MAX_TSC_KHZ),
		tscOffset: reader.has("tscOffset") ? reader.u64("tscOffset") : undefined,
		mpState: reader.integer("mpState", 0, MAX_MP_STATE),
		regs: structView(kvm_regs, bytes("regs", kvm_regs.sizeof)),
		sregs: structView(kvm_sregs, bytes("sregs", kvm_sregs.sizeof)),
		xcrs: structView(kvm_xcrs, bytes("xcrs", kvm_xcrs.sizeof)),
		xsave: bytes("xsave", kvm_xsave.sizeof, MAX_XSAVE_BYTES),
		debugregs: structView(kvm_debugregs, bytes("debugregs", kvm_debugregs.sizeof)),
		lapic: structView(kvm_lapic_state, bytes("lapic", kvm_lapic_state.sizeof)),
		msrs: unpackMsrs(reader),
		events: structView(kvm_vcpu_events, bytes("events", kvm_vcpu_events.sizeof)),
	};
}

/**
 * Gives a fresh vCPU a state.
 *
 * @throws IoctlError, HostError ERR_KVM_MSR for what this host's KVM refuses
 */
export function restoreVcpu(vcpu: Vcpu, state: VcpuState): void {
	vcpu.setCpuid2(state.cpuid);
	/* Without TSC scaling KVM takes only the host's own frequency, which a fresh vCPU has. */
	if (state.tscKhz !== 0 && state.tscKhz !== vcpu.getTscKhz()) vcpu.setTscKhz(state.tscKhz);
	vcpu.setMpState(state.mpState);
	vcpu.setRegs(state.regs);
	vcpu.setSregs(state.sregs);
	vcpu.setXcrs(state.xcrs);
	vcpu.setXsave(state.xsave);
	vcpu.setDebugregs(state.debugregs);
	vcpu.setLapic(state.lapic);
	vcpu.setMsrs(state.msrs);
	vcpu.setVcpuEvents(state.events);
}

function copy(bytes: Buffer): Uint8Array {
	return Uint8Array.from(bytes);
}

/** Index and value of each, little endian. */
function packMsrs(msrs: ReadonlyMap<number, bigint>): Uint8Array {
	const bytes = Buffer.alloc(msrs.size * MSR_BYTES);
	for (const [i, [index, value]] of [...msrs].entries()) {
		bytes.writeUInt32LE(index, i * MSR_BYTES);
		bytes.writeBigUInt64LE(value, i * MSR_BYTES + 4);
	}
	return copy(bytes);
}

function unpackMsrs(reader: StateReader): Map<number, bigint> {
	const bytes = Buffer.from(reader.bytes("msrs", 0, MAX_MSRS * MSR_BYTES));
	if (bytes.length % MSR_BYTES !== 0) throw reader.refuse(`its MSRs are ${bytes.length} bytes`);
	return new Map(
		Array.from({ length: bytes.length / MSR_BYTES }, (_, i) => [
			bytes.readUInt32LE(i * MSR_BYTES),
			bytes.readBigUInt64LE(i * MSR_BYTES + 4),
		]),
	);
}

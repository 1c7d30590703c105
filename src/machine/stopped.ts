/*
 * The state of a machine whose vCPUs stand still, for observers: where each vCPU is, which interrupts wait, what is left in
 * the queues. `tsvmm explain` tells from it why nothing happens. It is collected only if an observer wants it.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import type { Observers } from "../base/observer.ts";
import type { StoppedDevice, StoppedPin, StoppedQueue, StoppedState, StoppedVcpu } from "../base/stopped-state.ts";
import {
	KVM_IRQCHIP_IOAPIC,
	KVM_MP_STATE_HALTED,
	KVM_MP_STATE_INIT_RECEIVED,
	KVM_MP_STATE_RUNNABLE,
	KVM_MP_STATE_SIPI_RECEIVED,
	KVM_MP_STATE_UNINITIALIZED,
} from "../kvm/constants.ts";
import { MSR_LSTAR } from "../kvm/control-registers.ts";
import { kvm_ioapic_state } from "../kvm/structs.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import type { QueueView } from "../virtio/view.ts";
import type { Wiring } from "./builder.ts";
import type { DeviceSlots } from "./device-slots.ts";
import { virtioSlot } from "./memory-map.ts";

/** The parts that are looked at. */
export interface StoppedParts {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly vcpus: readonly Vcpu[];
	readonly slots: DeviceSlots;
}

const MP_STATES = new Map([
	[KVM_MP_STATE_RUNNABLE, "runnable"],
	[KVM_MP_STATE_UNINITIALIZED, "uninitialized"],
	[KVM_MP_STATE_INIT_RECEIVED, "init received"],
	[KVM_MP_STATE_HALTED, "halted"],
	[KVM_MP_STATE_SIPI_RECEIVED, "sipi received"],
]);
const RFLAGS_IF = 1n << 9n;
/** Bytes of code that are shown. */
const CODE_BYTES = 16;
/* Registers of the local APIC (Intel SDM 3, table 11-1). */
const LAPIC_SVR = 0xf0;
const LAPIC_SVR_ENABLED = 1 << 8;
const LAPIC_ISR = 0x100;
const LAPIC_IRR = 0x200;
const PINS = 24;
/* Bits of an entry of the I/O APIC's redirection table (82093AA data sheet, §3.2.4). */
const REMOTE_IRR = 1 << 14;
const MASKED = 1 << 16;

/** Tells observers of the state, if one wants it. */
export function tellStopped(parts: StoppedParts & { readonly observers: Observers }): void {
	const { observer } = parts.observers;
	if (observer?.stopped !== undefined) observer.stopped(stoppedState(parts));
}

/**
 * As tellStopped, of a machine that runs: its vCPUs stop meanwhile.
 *
 * @param held others have stopped them, before or meanwhile, and they stay so
 */
export async function tellForAMoment(wiring: Wiring & StoppedParts, held: () => boolean): Promise<void> {
	const { threads, entry } = wiring;
	await threads.pause();
	/* Somebody may have let them run on meanwhile. */
	if (entry.ended !== undefined || !threads.paused) return;
	try {
		tellStopped(wiring);
		if (!held()) threads.resume();
	} catch (error) {
		entry.failed("the look at the machine", error);
	}
}

/** Looks at a machine. No vCPU runs. What KVM does not tell is left out. */
function stoppedState({ vm, memory, vcpus, slots }: StoppedParts): StoppedState {
	return {
		vcpus: vcpus.flatMap((vcpu, index) => orNothing(() => vcpuState(index, vcpu, memory))),
		pins: orNothing(() => pinStates(vm)).flat(),
		devices: slots.transports.map(({ slot, transport }): StoppedDevice => {
			const { status, interruptStatus, queues } = transport.inspect();
			return {
				device: transport.name,
				gsi: virtioSlot(slot).gsi,
				status,
				interruptStatus,
				queues: queues.map(queueState),
			};
		}),
	};
}

function queueState({ index, ready, live }: QueueView): StoppedQueue {
	const pending = live === undefined ? 0 : (live.availIdx - live.nextAvail) & 0xffff;
	return { queue: index, ready, pending, inFlight: live?.inFlight ?? 0 };
}

function orNothing<T>(look: () => T): T[] {
	try {
		return [look()];
	} catch {
		return [];
	}
}

function vcpuState(index: number, vcpu: Vcpu, memory: GuestMemory): StoppedVcpu {
	const { rip, rsp, rflags } = vcpu.getRegs();
	const { cr0, cr2, cr3, cr4, efer, cs, idt } = vcpu.getSregs();
	const { regs } = vcpu.getLapic();
	const mp = vcpu.getMpState();
	const lstar = vcpu.getMsrs([MSR_LSTAR]).get(MSR_LSTAR);
	const at = vcpu.translate(cs.base + rip);
	const code = at === undefined || !memory.contains(at, CODE_BYTES) ? undefined : memory.bytes(at, CODE_BYTES);
	return {
		vcpu: index,
		rip: hex(rip),
		rsp: hex(rsp),
		rflags: hex(rflags),
		cr0: hex(cr0),
		cr2: hex(cr2),
		cr3: hex(cr3),
		cr4: hex(cr4),
		efer: hex(efer),
		...(lstar === undefined ? {} : { lstar: hex(lstar) }),
		idtLimit: idt.limit,
		mp: MP_STATES.get(mp) ?? `state ${mp}`,
		interruptsEnabled: (rflags & RFLAGS_IF) !== 0n,
		lapicEnabled: (word(regs, LAPIC_SVR) & LAPIC_SVR_ENABLED) !== 0,
		pending: vectorsIn(regs, LAPIC_IRR),
		inService: vectorsIn(regs, LAPIC_ISR),
		...(code === undefined ? {} : { code: Buffer.from(code).toString("hex") }),
	};
}

function hex(value: bigint): string {
	return `0x${value.toString(16)}`;
}

function word(regs: Uint8Array, at: number): number {
	return new DataView(regs.buffer, regs.byteOffset, regs.length).getUint32(at, true);
}

/** The vectors whose bits are set in eight registers of 32 bits, 16 bytes apart. */
function vectorsIn(regs: Uint8Array, from: number): number[] {
	return Array.from({ length: 256 }, (_, vector) => vector).filter(
		(vector) => (word(regs, from + 16 * (vector >> 5)) & (1 << (vector & 31))) !== 0,
	);
}

function pinStates(vm: Vm): StoppedPin[] {
	const { chip } = vm.getIrqchip(KVM_IRQCHIP_IOAPIC);
	const irr = word(chip, kvm_ioapic_state.irr);
	return Array.from({ length: PINS }, (_, gsi) => {
		const low = word(chip, kvm_ioapic_state.redirtbl + 8 * gsi);
		const [masked, remoteIrr] = [(low & MASKED) !== 0, (low & REMOTE_IRR) !== 0];
		return { gsi, vector: low & 0xff, masked, pending: (irr & (1 << gsi)) !== 0, remoteIrr };
	});
}

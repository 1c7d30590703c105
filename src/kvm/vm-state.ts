/*
 * The state of a VM besides its memory and its vCPUs: interrupt controllers, timer and clock, as plain data.
 */
import { type SavedState, StateReader } from "../base/state.ts";
import { KVM_CLOCK_HOST_TSC, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from "./constants.ts";
import { type KvmIrqchip, type KvmPitState2, structView } from "./struct-view.ts";
import { kvm_irqchip, kvm_pit_state2 } from "./structs.ts";
import type { Vm } from "./vm.ts";

export interface VmState {
	/** The two PICs and the I/O APIC. */
	readonly chips: readonly KvmIrqchip[];
	readonly pit: KvmPitState2;
	/** kvmclock, in nanoseconds. */
	readonly clock: bigint;
	/** The host's TSC at that moment; 0 when KVM has not told. */
	readonly hostTsc: bigint;
}

const CHIPS = [
	["master", KVM_IRQCHIP_PIC_MASTER],
	["slave", KVM_IRQCHIP_PIC_SLAVE],
	["ioapic", KVM_IRQCHIP_IOAPIC],
] as const;

/** While no vCPU runs. @throws IoctlError */
export function saveVm(vm: Vm): SavedState {
	const chips = CHIPS.map(([name, chip]) => [name, Uint8Array.from(vm.getIrqchip(chip).bytes)] as const);
	const pit = Uint8Array.from(vm.getPit2().bytes);
	const { clock, flags, host_tsc } = vm.getClock();
	const hostTsc = (flags & KVM_CLOCK_HOST_TSC) !== 0 ? host_tsc : 0n;
	return { version: 1, ...Object.fromEntries(chips), pit, clock, hostTsc };
}

/** @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_VERSION */
export function readVm(saved: unknown): VmState {
	const reader = new StateReader("vm", saved).version(1);
	const chips = CHIPS.map(([name, number]) => {
		const chip = structView(kvm_irqchip, Buffer.from(reader.bytes(name, kvm_irqchip.sizeof)));
		if (chip.chip_id !== number) throw reader.refuse(`"${name}" is of chip ${chip.chip_id}`);
		return chip;
	});
	const pit = structView(kvm_pit_state2, Buffer.from(reader.bytes("pit", kvm_pit_state2.sizeof)));
	return { chips, pit, clock: reader.u64("clock"), hostTsc: reader.u64("hostTsc") };
}

/** Gives a VM a state, when its vCPUs have theirs. @throws IoctlError */
export function restoreVm(vm: Vm, { chips, pit, clock }: VmState): void {
	for (const chip of chips) vm.setIrqchip(chip);
	vm.setPit2(pit);
	vm.setClock(clock);
}

/*
 * The guest's TSC and kvmclock go on together. They are read and set one after the other, and a guest whose two clocks have
 * moved apart marks its TSC as unstable. So the TSC's offsets are corrected by what both clocks of the host say (Linux,
 * Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET).
 */
import { KVM_CLOCK_HOST_TSC } from "./constants.ts";
import type { Vcpu } from "./vcpu.ts";
import type { VcpuState } from "./vcpu-state.ts";
import type { Vm } from "./vm.ts";
import type { VmState } from "./vm-state.ts";

const NS_PER_MS = 1_000_000n;

/**
 * Lets the TSCs of vCPUs go on with their guest's clock, when both have been set. On a host that does not tell enough, or
 * whose TSC has another frequency, they stay as they are.
 */
export function alignTsc(vm: Vm, vcpus: readonly Vcpu[], states: readonly VcpuState[], saved: VmState): void {
	const offsets = states.map(({ tscOffset }) => tscOffset);
	const isKnown = vcpus.every((vcpu, i) => vcpu.getTscOffset() !== undefined && vcpu.getTscKhz() === states[i]!.tscKhz);
	if (saved.hostTsc === 0n || !isKnown || !offsets.every((offset) => offset !== undefined)) return;
	const move = (by: bigint) => {
		for (const [i, vcpu] of vcpus.entries()) vcpu.setTscOffset(offsets[i]! + by);
	};
	/* KVM tells the host's TSC only while those of all vCPUs agree. */
	move(0n);
	vm.setClock(saved.clock);
	const { clock, flags, host_tsc: hostTsc } = vm.getClock();
	if ((flags & KVM_CLOCK_HOST_TSC) === 0) return;
	const passed = ((clock - saved.clock) * BigInt(states[0]!.tscKhz)) / NS_PER_MS;
	move(saved.hostTsc + passed - hostTsc);
}

/*
 * The vCPUs, each with its CPUID and what firmware would have set; the first is at the kernel's entry, the others wait
 * for its INIT and SIPI in the in-kernel APIC. Those of a machine that is restored go on where they were.
 */
import {
	bootFpu,
	bootLapic,
	bootMsrs,
	bootRegs,
	bootSregs,
	bootXcrs,
	MSR_IA32_MISC_ENABLE,
} from "../boot/cpu-state.ts";
import { guestCpuid } from "../boot/cpuid.ts";
import type { LoadedKernel } from "../boot/loaded.ts";
import type { Kvm } from "../kvm/system.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import { restoreVcpu, type VcpuState } from "../kvm/vcpu-state.ts";
import type { Vm } from "../kvm/vm.ts";
import { turn } from "./turn.ts";

/** Creates `cpus` vCPUs, ready to run. When one fails those before it are closed. */
export function bootVcpus(kvm: Kvm, vm: Vm, cpus: number, kernel: LoadedKernel): Promise<Vcpu[]> {
	return createAll(vm, cpus, (vcpu) => {
		const cpuid = setCpuid(kvm, vcpu, cpus);
		const xcrs = bootXcrs(cpuid);
		if (xcrs !== undefined) vcpu.setXcrs(xcrs);
		vcpu.setMsrs(bootMsrs(vcpu.getMsrs([MSR_IA32_MISC_ENABLE]).get(MSR_IA32_MISC_ENABLE) ?? 0n));
		vcpu.setFpu(bootFpu());
		if (vcpu.id > 0) return;
		vcpu.setLapic(bootLapic(vcpu.getLapic()));
		vcpu.setSregs(bootSregs(vcpu.getSregs(), kernel.protocol));
		vcpu.setRegs(bootRegs(kernel.protocol, kernel.entry));
	});
}

/**
 * Creates a vCPU for each state. When one fails those before it are closed.
 *
 * @param check throws when a vCPU cannot go on with the CPUID that this host gives
 */
export function restoredVcpus(
	kvm: Kvm,
	vm: Vm,
	states: readonly VcpuState[],
	check: (state: VcpuState, host: Buffer) => void,
): Promise<Vcpu[]> {
	return createAll(vm, states.length, (vcpu) => {
		const state = states[vcpu.id]!;
		setCpuid(kvm, vcpu, states.length);
		/* What KVM makes of it. */
		check(state, vcpu.getCpuid2());
		restoreVcpu(vcpu, state);
	});
}

/** The CPUID of a guest that boots here. */
function setCpuid(kvm: Kvm, vcpu: Vcpu, cpus: number): Buffer {
	const tscKhz = kvm.checkExtension("KVM_CAP_GET_TSC_KHZ") > 0 ? vcpu.getTscKhz() : undefined;
	const tscDeadlineTimer = kvm.checkExtension("KVM_CAP_TSC_DEADLINE_TIMER") > 0;
	const cpuid = guestCpuid(kvm.getSupportedCpuid(), { vcpu: vcpu.id, cpus, tscKhz, tscDeadlineTimer });
	vcpu.setCpuid2(cpuid);
	return cpuid;
}

async function createAll(vm: Vm, cpus: number, prepare: (vcpu: Vcpu) => void): Promise<Vcpu[]> {
	const vcpus: Vcpu[] = [];
	try {
		for (let index = 0; index < cpus; index++) {
			await turn();
			const vcpu = vm.createVcpu(index);
			vcpus.push(vcpu);
			prepare(vcpu);
		}
		return vcpus;
	} catch (error) {
		for (const vcpu of vcpus) vcpu.close();
		throw error;
	}
}

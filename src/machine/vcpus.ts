/*
 * The vCPUs, each with its CPUID and what firmware would have set; the first is at the kernel's entry, the others wait
 * for its INIT and SIPI in the in-kernel APIC.
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
import type { Vm } from "../kvm/vm.ts";
import { turn } from "./turn.ts";

/** Creates `cpus` vCPUs, ready to run. When one fails those before it are closed. */
export async function bootVcpus(kvm: Kvm, vm: Vm, cpus: number, kernel: LoadedKernel): Promise<Vcpu[]> {
	const supported = kvm.getSupportedCpuid();
	const tscDeadlineTimer = kvm.checkExtension("KVM_CAP_TSC_DEADLINE_TIMER") > 0;
	const vcpus: Vcpu[] = [];
	try {
		for (let index = 0; index < cpus; index++) {
			await turn();
			const vcpu = vm.createVcpu(index);
			vcpus.push(vcpu);
			const tscKhz = kvm.checkExtension("KVM_CAP_GET_TSC_KHZ") > 0 ? vcpu.getTscKhz() : undefined;
			const cpuid = guestCpuid(supported, { vcpu: index, cpus, tscKhz, tscDeadlineTimer });
			vcpu.setCpuid2(cpuid);
			const xcrs = bootXcrs(cpuid);
			if (xcrs !== undefined) vcpu.setXcrs(xcrs);
			vcpu.setMsrs(bootMsrs(vcpu.getMsrs([MSR_IA32_MISC_ENABLE]).get(MSR_IA32_MISC_ENABLE) ?? 0n));
			vcpu.setFpu(bootFpu());
			if (index > 0) continue;
			vcpu.setLapic(bootLapic(vcpu.getLapic()));
			vcpu.setSregs(bootSregs(vcpu.getSregs(), kernel.protocol));
			vcpu.setRegs(bootRegs(kernel.protocol, kernel.entry));
		}
		return vcpus;
	} catch (error) {
		for (const vcpu of vcpus) vcpu.close();
		throw error;
	}
}

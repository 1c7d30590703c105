/*
 * What of a guest's CPUID a host must have, too. A guest looks at CPUID once and then uses what it has found (Intel SDM
 * vol. 2 CPUID, AMD APM vol. 3 appendix E).
 */
import { kvm_cpuid_entry2, kvm_cpuid2 } from "../kvm/structs.ts";

/** Registers that are a set of features, a bit each. */
const FEATURE_WORDS = [
	["1.ecx", 1, 0, kvm_cpuid_entry2.ecx],
	["1.edx", 1, 0, kvm_cpuid_entry2.edx],
	["7.ebx", 7, 0, kvm_cpuid_entry2.ebx],
	["7.ecx", 7, 0, kvm_cpuid_entry2.ecx],
	["7.edx", 7, 0, kvm_cpuid_entry2.edx],
	["7:1.eax", 7, 1, kvm_cpuid_entry2.eax],
	["0xd.eax", 0xd, 0, kvm_cpuid_entry2.eax],
	["0xd:1.eax", 0xd, 1, kvm_cpuid_entry2.eax],
	["0x80000001.ecx", 0x8000_0001, 0, kvm_cpuid_entry2.ecx],
	["0x80000001.edx", 0x8000_0001, 0, kvm_cpuid_entry2.edx],
	["0x80000008.ebx", 0x8000_0008, 0, kvm_cpuid_entry2.ebx],
] as const;
/** Bits that show what the guest has switched on: OSXSAVE, APIC, OSPKE. */
const SWITCHES: Readonly<Record<string, number>> = {
	"1.ecx": 1 << 27,
	"1.edx": 1 << 9,
	"7.ecx": 1 << 4,
	"0x80000001.edx": 1 << 9,
};

/**
 * The features that a guest has and another does not have.
 *
 * @param cpuid the guest's, a struct kvm_cpuid2
 * @param other of a guest that boots on the host in question, as KVM_GET_CPUID2 has it
 * @returns such as "7.ebx bit 16", in the order of the leaves
 */
export function missingFeatures(cpuid: Buffer, other: Buffer): string[] {
	return FEATURE_WORDS.flatMap(([name, leaf, index, register]) => {
		const missing =
			wordOf(cpuid, leaf, index, register) & ~(wordOf(other, leaf, index, register) | (SWITCHES[name] ?? 0));
		return Array.from({ length: 32 }, (_, bit) => bit)
			.filter((bit) => ((missing >>> bit) & 1) === 1)
			.map((bit) => `${name} bit ${bit}`);
	});
}

function wordOf(cpuid: Buffer, leaf: number, index: number, register: number): number {
	const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
	for (let i = 0; i < count; i++) {
		const at = kvm_cpuid2.entries + i * kvm_cpuid_entry2.sizeof;
		if (
			cpuid.readUInt32LE(at + kvm_cpuid_entry2.function) === leaf &&
			cpuid.readUInt32LE(at + kvm_cpuid_entry2.index) === index
		)
			return cpuid.readUInt32LE(at + register);
	}
	return 0;
}

/*
 * The guest's CPUID: KVM's supported leaves, changed to describe one consistent machine. Each vCPU has its own APIC ID.
 * All leaves with a topology have the same one: one package, `cpus` cores, one thread each. Features that we do not
 * emulate are removed. Input and output are struct kvm_cpuid2 (KVM api.rst §4.46, §4.20). Leaves: Intel SDM vol. 2
 * CPUID, AMD APM vol. 3 appendix E.
 */
import { kvm_cpuid_entry2, kvm_cpuid2 } from "../kvm/structs.ts";

/** Facts that are not in the supported leaves. */
export interface CpuidOptions {
	/** This vCPU, 0 to cpus - 1; also its APIC ID. */
	readonly vcpu: number;
	readonly cpus: number;
	/** KVM_GET_TSC_KHZ. If known, it is in leaves 0x15 and 0x16, and the guest need not measure it. */
	readonly tscKhz?: number | undefined;
	/** KVM_CAP_TSC_DEADLINE_TIMER: KVM emulates it, but KVM_GET_SUPPORTED_CPUID does not say so. */
	readonly tscDeadlineTimer?: boolean;
	/** Leaves VMX and SVM in, for guests that run guests. */
	readonly nested?: boolean;
}

const SIGNIFICANT_INDEX = 1;
/* KVM's local APIC timer counts at 1 GHz; leaf 0x15 calls that the crystal clock. */
const APIC_HZ = 1_000_000_000;
/* Linux multiplies crystal kHz by the numerator in 32 bits. */
const MAX_NUMERATOR = Math.floor(0xffffffff / (APIC_HZ / 1000));

/* For CPUs that do not report it. */
const PAE_ADDRESS_BITS = 36;

/* Leaf 1 */
const DTES64_MONITOR_DSCPL = 0b11100;
const VMX_SMX_EIST_TM2 = 0b1111 << 5;
const PDCM = 1 << 15;
const X2APIC = 1 << 21;
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;
const DS = 1 << 21;
const HTT = 1 << 28;
/* Leaf 6 */
const ARAT = 1 << 2;
/* Leaf 7 */
const SGX = 1 << 2;
const INTEL_PT = 1 << 25;
const SGX_LC = 1 << 30;
const PCONFIG_ARCH_LBR = (1 << 18) | (1 << 19);
/* Leaf 0x80000001 */
const CMP_LEGACY = 1 << 1;
const SVM = 1 << 2;
const IBS_SKINIT_WDT_LWP = (1 << 10) | (1 << 12) | (1 << 13) | (1 << 15);
const NODEID_PERFCTR_MWAITX = (1 << 19) | (1 << 23) | (1 << 24) | (1 << 28) | (1 << 29);
/* Leaf 0x80000007 */
const INVARIANT_TSC = 1 << 8;

/*
 * MWAIT, PMU, SGX, PT, PCONFIG, hybrid cores, key locker, LBR, PMU extensions; IBS, SEV, AMD's PMU, and AMD's extended
 * topology, which would describe the host's cores. SVM is handled separately.
 */
const EMPTY_LEAVES = new Set([
	5, 0xa, 0x12, 0x14, 0x19, 0x1a, 0x1b, 0x1c, 0x23, 0x8000001b, 0x8000001f, 0x80000022, 0x80000026,
]);

interface Leaf {
	function: number;
	index: number;
	flags: number;
	eax: number;
	ebx: number;
	ecx: number;
	edx: number;
}

/**
 * The CPUID of one vCPU.
 *
 * @param supported what KVM_GET_SUPPORTED_CPUID filled in
 * @returns the argument of KVM_SET_CPUID2
 */
export function guestCpuid(supported: Buffer, options: CpuidOptions): Buffer {
	const leaves = parse(supported).filter((leaf) => leaf.function !== 0xb && leaf.function !== 0x1f);
	const basic = leaves.find((leaf) => leaf.function === 0);
	const highest = basic?.eax ?? 0;
	/* How far to shift an APIC ID to get the package number: the bits that number the cores. */
	const coreBits = Math.ceil(Math.log2(options.cpus));
	for (const leaf of leaves) adjust(leaf, options, coreBits);
	if (highest >= 0xb) leaves.push(...topology(0xb, options, coreBits));
	if (highest >= 0x1f) leaves.push(...topology(0x1f, options, coreBits));
	if (options.tscKhz !== undefined && options.tscKhz > 0 && basic !== undefined) {
		addFrequencies(leaves, options.tscKhz);
		basic.eax = Math.max(highest, 0x16);
	}
	return pack(leaves);
}

/**
 * How many bits a guest-physical address has: MAXPHYADDR, 39 on client CPUs, 46 and more on servers.
 *
 * @param supported what KVM_GET_SUPPORTED_CPUID filled in
 */
export function physicalAddressBits(supported: Buffer): number {
	const leaf = parse(supported).find((one) => one.function === 0x80000008);
	return leaf === undefined ? PAE_ADDRESS_BITS : leaf.eax & 0xff;
}

function adjust(leaf: Leaf, options: CpuidOptions, coreBits: number): void {
	const { vcpu, cpus } = options;
	if (EMPTY_LEAVES.has(leaf.function)) {
		leaf.eax = leaf.ebx = leaf.ecx = leaf.edx = 0;
		return;
	}
	switch (leaf.function) {
		case 1:
			leaf.ebx = (leaf.ebx & 0xffff) | ((1 << coreBits) << 16) | (vcpu << 24);
			leaf.ecx &= ~(DTES64_MONITOR_DSCPL | (VMX_SMX_EIST_TM2 & ~(options.nested === true ? 1 << 5 : 0)) | PDCM);
			leaf.ecx |= HYPERVISOR | X2APIC;
			if (options.tscDeadlineTimer === true) leaf.ecx |= TSC_DEADLINE;
			leaf.edx = (cpus > 1 ? leaf.edx | HTT : leaf.edx & ~HTT) & ~DS;
			break;
		case 4:
			if ((leaf.eax & 0x1f) !== 0) leaf.eax = cacheSharing(leaf.eax, coreBits) | (((1 << coreBits) - 1) << 26);
			break;
		case 6:
			leaf.eax &= ARAT;
			leaf.ebx = leaf.ecx = leaf.edx = 0;
			break;
		case 7:
			if (leaf.index !== 0) break;
			leaf.ebx &= ~(SGX | INTEL_PT);
			leaf.ecx &= ~SGX_LC;
			leaf.edx &= ~PCONFIG_ARCH_LBR;
			break;
		case 0x80000001:
			leaf.ecx &= ~(IBS_SKINIT_WDT_LWP | NODEID_PERFCTR_MWAITX | (options.nested === true ? 0 : SVM));
			leaf.ecx = cpus > 1 && isAmd(leaf) ? leaf.ecx | CMP_LEGACY : leaf.ecx & ~CMP_LEGACY;
			break;
		case 0x80000007:
			leaf.eax = leaf.ebx = leaf.ecx = 0;
			/* Only the host can promise a constant, non-stop TSC. Guests without it keep time by kvmclock. */
			leaf.edx &= INVARIANT_TSC;
			break;
		case 0x80000008:
			leaf.ecx = (coreBits << 12) | (cpus - 1);
			break;
		case 0x8000000a:
			if (options.nested !== true) leaf.eax = leaf.ebx = leaf.ecx = leaf.edx = 0;
			break;
		case 0x8000001d:
			if ((leaf.eax & 0x1f) !== 0) leaf.eax = cacheSharing(leaf.eax, coreBits);
			break;
		case 0x8000001e:
			leaf.eax = vcpu;
			leaf.ebx = vcpu & 0xff;
			leaf.ecx = leaf.edx = 0;
			break;
	}
}

/** EAX of a cache leaf (4, 0x8000001d): all cores share the last level, and each has the other levels of its own. */
function cacheSharing(eax: number, coreBits: number): number {
	const level = (eax >> 5) & 7;
	const sharing = level >= 3 ? (1 << coreBits) - 1 : 0;
	return (eax & 0x3fff) | (sharing << 14);
}

/** True for AMD and Hygon, which report these bits of leaf 0x80000001. On Intel CMP_LEGACY is reserved (0). */
function isAmd(leaf: Leaf): boolean {
	return (leaf.ecx & TOPOEXT) !== 0 || (leaf.ecx & CR8_LEGACY) !== 0;
}
const TOPOEXT = 1 << 22;
const CR8_LEGACY = 1 << 4;

/** Extended topology: level 0 is threads (one per core), level 1 cores, level 2 the end. */
function topology(fn: number, { vcpu, cpus }: CpuidOptions, coreBits: number): Leaf[] {
	const levels = [
		{ eax: 0, ebx: 1, ecx: 0x100 },
		{ eax: coreBits, ebx: cpus, ecx: 0x201 },
		{ eax: 0, ebx: 0, ecx: 2 },
	];
	return levels.map((level, index) => ({ function: fn, index, flags: SIGNIFICANT_INDEX, ...level, edx: vcpu }));
}

function addFrequencies(leaves: Leaf[], tscKhz: number): void {
	const { numerator, denominator } = ratio(tscKhz / (APIC_HZ / 1000), MAX_NUMERATOR);
	const mhz = Math.round(tscKhz / 1000);
	for (const [fn, eax, ebx, ecx] of [
		[0x15, denominator, numerator, APIC_HZ],
		[0x16, mhz, mhz, 100],
	] as const) {
		const old = leaves.findIndex((leaf) => leaf.function === fn);
		if (old >= 0) leaves.splice(old, 1);
		leaves.push({ function: fn, index: 0, flags: 0, eax, ebx, ecx, edx: 0 });
	}
}

/** The best fraction for `value` whose numerator is at most `max`, by continued fractions. */
function ratio(value: number, max: number): { numerator: number; denominator: number } {
	let [h0, k0, h1, k1] = [0, 1, 1, 0];
	let rest = value;
	for (let i = 0; i < 20; i++) {
		const whole = Math.floor(rest);
		const h2 = whole * h1 + h0;
		const k2 = whole * k1 + k0;
		if (h2 > max || k2 > 0xffffffff) break;
		[h0, k0, h1, k1] = [h1, k1, h2, k2];
		if (rest - whole < 1e-9) break;
		rest = 1 / (rest - whole);
	}
	return { numerator: h1, denominator: k1 };
}

function parse(cpuid: Buffer): Leaf[] {
	const leaves: Leaf[] = [];
	const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
	for (let i = 0; i < count; i++) {
		const at = kvm_cpuid2.sizeof + i * kvm_cpuid_entry2.sizeof;
		if (at + kvm_cpuid_entry2.sizeof > cpuid.length) break;
		leaves.push({
			function: cpuid.readUInt32LE(at + kvm_cpuid_entry2.function),
			index: cpuid.readUInt32LE(at + kvm_cpuid_entry2.index),
			flags: cpuid.readUInt32LE(at + kvm_cpuid_entry2.flags),
			eax: cpuid.readUInt32LE(at + kvm_cpuid_entry2.eax),
			ebx: cpuid.readUInt32LE(at + kvm_cpuid_entry2.ebx),
			ecx: cpuid.readUInt32LE(at + kvm_cpuid_entry2.ecx),
			edx: cpuid.readUInt32LE(at + kvm_cpuid_entry2.edx),
		});
	}
	return leaves;
}

function pack(leaves: Leaf[]): Buffer {
	const cpuid = Buffer.alloc(kvm_cpuid2.sizeof + leaves.length * kvm_cpuid_entry2.sizeof);
	cpuid.writeUInt32LE(leaves.length, kvm_cpuid2.nent);
	for (const [i, leaf] of leaves.entries()) {
		const at = kvm_cpuid2.sizeof + i * kvm_cpuid_entry2.sizeof;
		for (const name of ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const) {
			cpuid.writeUInt32LE(leaf[name] >>> 0, at + kvm_cpuid_entry2[name]);
		}
	}
	return cpuid;
}

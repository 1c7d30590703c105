import { describe, expect, it } from "vitest";
import { bootFpu, bootLapic, bootMsrs, bootRegs, bootSregs, bootXcrs } from "../../src/boot/cpu-state.ts";
import { type CpuidOptions, guestCpuid, physicalAddressBits } from "../../src/boot/cpuid.ts";
import { structView } from "../../src/kvm/struct-view.ts";
import { kvm_lapic_state, kvm_sregs } from "../../src/kvm/structs.ts";

type Entry = [fn: number, index: number, eax: number, ebx: number, ecx: number, edx: number];

function pack(entries: Entry[]): Buffer {
	const cpuid = Buffer.alloc(8 + 40 * entries.length);
	cpuid.writeUInt32LE(entries.length, 0);
	for (const [i, [fn, index, ...registers]] of entries.entries()) {
		const at = 8 + 40 * i;
		cpuid.writeUInt32LE(fn, at);
		cpuid.writeUInt32LE(index, at + 4);
		for (const [r, value] of registers.entries()) cpuid.writeUInt32LE(value >>> 0, at + 12 + 4 * r);
	}
	return cpuid;
}

/** CPUID of a vCPU as a function of leaf and subleaf. */
function cpu(supported: Entry[], options: CpuidOptions): (fn: number, index?: number) => number[] {
	const cpuid = guestCpuid(pack(supported), options);
	const count = cpuid.readUInt32LE(0);
	expect(cpuid.length).toBe(8 + 40 * count);
	return (fn, index = 0) => {
		for (let i = 0; i < count; i++) {
			const at = 8 + 40 * i;
			if (cpuid.readUInt32LE(at) !== fn || cpuid.readUInt32LE(at + 4) !== index) continue;
			return [12, 16, 20, 24].map((r) => cpuid.readUInt32LE(at + r));
		}
		return [];
	};
}

const ONES = 0xffffffff;
const INTEL: Entry[] = [
	[0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69],
	[1, 0, 0x906ea, ONES, ONES, ONES],
	[4, 0, 0x1c004121, 1, 2, 3],
	[4, 3, 0x1c03c163, 1, 2, 3],
	[4, 4, 0, 0, 0, 0],
	[5, 0, 64, 64, 3, 0],
	[6, 0, 0x77, 2, 9, 0],
	[7, 0, 0, ONES, ONES, ONES],
	[0xa, 0, 0x7300404, 0, 0, 0x603],
	[0xb, 0, 9, 9, 9, 9],
	[0x14, 0, 1, 1, 1, 1],
	[0x1a, 0, 0x40000001, 0, 0, 0],
	[0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d],
	[0x40000001, 0, 0x1000efb, 0, 0, 0],
	[0x80000001, 0, 0, 0, 0x121, 0x2c100800],
];
const AMD: Entry[] = [
	[0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65],
	[1, 0, 0x830f10, ONES, ONES, ONES],
	[0xb, 0, 0, 0, 0, 0],
	[0x80000001, 0, 0x830f10, 0, ONES, ONES],
	[0x80000007, 0, 0, 0, 0, 0],
	[0x80000008, 0, 0x3030, 0, 0xffff, 0],
	[0x8000000a, 0, 1, 8, 0, 0xff],
	[0x8000001d, 3, 0x1c163, 1, 2, 3],
	[0x8000001e, 0, 9, 9, 9, 9],
	[0x80000026, 0, 1, 2, 0x100, 9],
];

describe("guestCpuid", () => {
	it("guestCpuid gives each vCPU its APIC ID in every leaf that has one", () => {
		for (let vcpu = 0; vcpu < 6; vcpu++) {
			const intel = cpu(INTEL, { vcpu, cpus: 6 });
			expect(intel(1)[1]! >>> 16).toBe((vcpu << 8) | 8);
			expect(intel(0xb)).toEqual([0, 1, 0x100, vcpu]);
			expect(intel(0xb, 1)).toEqual([3, 6, 0x201, vcpu]);
			expect(intel(0xb, 2)).toEqual([0, 0, 2, vcpu]);
			expect(intel(0x1f, 1)).toEqual([3, 6, 0x201, vcpu]);
			const amd = cpu(AMD, { vcpu, cpus: 6 });
			expect(amd(0x8000001e)).toEqual([vcpu, vcpu, 0, 0]);
			expect(amd(0x80000008)[2]).toBe(0x3005);
			expect(amd(0x1f)).toEqual([]);
		}
	});

	it("guestCpuid shows a lone vCPU as such", () => {
		const amd = cpu(AMD, { vcpu: 0, cpus: 1 });
		expect(amd(1)[1]! >>> 16).toBe(1);
		expect(amd(1)[3]! & (1 << 28)).toBe(0);
		expect(amd(0x80000001)[2]! & 2).toBe(0);
		expect(amd(0x80000008)[2]).toBe(0);
		expect(amd(0xb, 1)).toEqual([0, 1, 0x201, 0]);
	});

	it("guestCpuid shares the last-level cache among all cores and no other", () => {
		const intel = cpu(INTEL, { vcpu: 1, cpus: 4 });
		expect((intel(4, 0)[0]! >>> 14) & 0xfff).toBe(0);
		expect((intel(4, 3)[0]! >>> 14) & 0xfff).toBe(3);
		expect(intel(4, 3)[0]! >>> 26).toBe(3);
		expect(intel(4, 4)[0]).toBe(0);
		expect((cpu(AMD, { vcpu: 1, cpus: 4 })(0x8000001d, 3)[0]! >>> 14) & 0xfff).toBe(3);
	});

	it("guestCpuid takes out what is not emulated", () => {
		const intel = cpu(INTEL, { vcpu: 0, cpus: 1 });
		expect(intel(1)[2]! & ((1 << 3) | (1 << 5) | (1 << 15))).toBe(0);
		/* The debug store: DS in EDX, DTES64 in ECX. */
		expect([intel(1)[3]! & (1 << 21), intel(1)[2]! & (1 << 2)]).toEqual([0, 0]);
		expect(intel(5)).toEqual([0, 0, 0, 0]);
		expect(intel(6)).toEqual([4, 0, 0, 0]);
		expect(intel(7)[1]! & (1 << 2)).toBe(0);
		expect(intel(0xa)).toEqual([0, 0, 0, 0]);
		expect(intel(0x14)).toEqual([0, 0, 0, 0]);
		expect(intel(0x1a)).toEqual([0, 0, 0, 0]);
		const amd = cpu(AMD, { vcpu: 0, cpus: 1 });
		expect(amd(0x80000001)[2]! & ((1 << 2) | (1 << 10) | (1 << 23) | (1 << 29))).toBe(0);
		expect(amd(0x8000000a)).toEqual([0, 0, 0, 0]);
		expect(amd(0x80000026)).toEqual([0, 0, 0, 0]);
	});

	it("physicalAddressBits reads MAXPHYADDR, or takes 36 where no leaf says it", () => {
		expect(physicalAddressBits(pack([[0x80000008, 0, 0x3027, 0, 0, 0]]))).toBe(39);
		expect(physicalAddressBits(pack(AMD))).toBe(48);
		expect(physicalAddressBits(pack(INTEL))).toBe(36);
	});

	it("guestCpuid leaves SVM and VMX to a guest that may run guests", () => {
		expect(cpu(AMD, { vcpu: 0, cpus: 1, nested: true })(0x80000001)[2]! & 4).toBe(4);
		expect(cpu(AMD, { vcpu: 0, cpus: 1, nested: true })(0x8000000a)[1]).toBe(8);
		expect(cpu(INTEL, { vcpu: 0, cpus: 1, nested: true })(1)[2]! & (1 << 5)).toBe(1 << 5);
	});

	it("guestCpuid keeps the hypervisor leaves and says that there is a hypervisor", () => {
		const intel = cpu(INTEL, { vcpu: 0, cpus: 1 });
		expect(intel(0x40000000)).toEqual([0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d]);
		expect(intel(0x40000001)[0]).toBe(0x1000efb);
		expect(intel(1)[2]! >>> 31).toBe(1);
	});

	it("guestCpuid adds the TSC deadline timer when told to", () => {
		const plain: Entry[] = [[1, 0, 0, 0, 0, 0]];
		expect(cpu(plain, { vcpu: 0, cpus: 1 })(1)[2]! & (1 << 24)).toBe(0);
		expect(cpu(plain, { vcpu: 0, cpus: 1, tscDeadlineTimer: true })(1)[2]! & (1 << 24)).toBe(1 << 24);
	});

	it.each([0, 1 << 8])("guestCpuid promises an invariant TSC as KVM does: %i", (bit) => {
		expect(cpu([[0x80000007, 0, 1, 1, 1, 0xff | bit]], { vcpu: 0, cpus: 1 })(0x80000007)).toEqual([0, 0, 0, bit]);
	});

	it.each([1_000_000, 1_999_998, 2_445_402, 2_600_000, 3_693_060, 4_200_000])(
		"guestCpuid says %i kHz so that Linux computes it in 32 bits, right to 2 ppm",
		(tscKhz) => {
			const amd = cpu(AMD, { vcpu: 0, cpus: 1, tscKhz });
			expect(amd(0)[0]).toBe(0x16);
			const [denominator, numerator, crystalHz] = amd(0x15) as [number, number, number];
			const product = (crystalHz / 1000) * numerator;
			expect(product).toBeLessThan(2 ** 32);
			expect(Math.abs(Math.floor(product / denominator) - tscKhz)).toBeLessThanOrEqual(tscKhz * 2e-6);
			expect(amd(0x16)[0]).toBe(Math.round(tscKhz / 1000));
		},
	);

	it("guestCpuid stands a count that claims more entries than there are", () => {
		const lying = pack(INTEL);
		lying.writeUInt32LE(1000, 0);
		expect(guestCpuid(lying, { vcpu: 0, cpus: 1 }).length).toBeGreaterThan(8);
	});
});

describe("the boot CPU's state", () => {
	it("bootRegs points EBX at the start info for PVH and RSI at the zero page for Linux", () => {
		const pvh = bootRegs("pvh", 0x1000040);
		expect(pvh.rip).toBe(0x1000040n);
		expect(pvh.rbx).toBe(0x6000n);
		expect(pvh.rflags).toBe(2n);
		expect(bootRegs("linux64", 0x1000200).rsi).toBe(0x7000n);
	});

	it("bootSregs is flat 32-bit protected mode without paging for PVH", () => {
		const sregs = bootSregs(structView(kvm_sregs), "pvh");
		expect(sregs.cs).toMatchObject({
			limit: ONES,
			selector: 0x10,
			type: 0xb,
			db: 1,
			l: 0,
			present: 1,
		});
		expect(sregs.cr0).toBe(0x11n);
		expect(sregs.efer).toBe(0n);
	});

	it("bootSregs is long mode with paging for the 64-bit protocol and keeps the APIC base", () => {
		const before = structView(kvm_sregs);
		before.apic_base = 0xfee00900n;
		const sregs = bootSregs(before, "linux64");
		expect(sregs.cs).toMatchObject({ db: 0, l: 1 });
		expect(sregs.cr0).toBe(0x80000031n);
		expect(sregs.cr3).toBe(0x9000n);
		expect(sregs.cr4).toBe(0x20n);
		expect(sregs.efer).toBe(0x500n);
		expect(sregs.apic_base).toBe(0xfee00900n);
	});

	it("bootLapic wires LINT0 to the PIC and LINT1 to NMI, both unmasked", () => {
		const lapic = structView(kvm_lapic_state);
		lapic.bytes.writeUInt32LE(0x10000, 0x350);
		lapic.bytes.writeUInt32LE(0x10000, 0x360);
		bootLapic(lapic);
		expect([lapic.bytes.readUInt32LE(0x350), lapic.bytes.readUInt32LE(0x360)]).toEqual([0x700, 0x400]);
	});

	it("bootXcrs enables what CPUID has of x87, SSE and AVX, and is undefined without XSAVE", () => {
		const xcr0 = (features: number) =>
			bootXcrs(
				pack([
					[1, 0, 0, 0, 0, 0],
					[0xd, 1, 9, 0, 0, 0],
					[0xd, 0, features, 0, 0, 0],
				]),
			);
		expect(xcr0(0x602e7)!.nr_xcrs).toBe(1);
		expect(xcr0(0x602e7)!.xcrs[0]!.value).toBe(7n);
		expect(xcr0(3)!.xcrs[0]!.value).toBe(3n);
		expect(bootXcrs(pack([[1, 0, 0, 0, 0, 0]]))).toBeUndefined();
	});

	it("bootMsrs and bootFpu hold the defaults that firmware leaves", () => {
		expect(bootMsrs(0n)).toContainEqual([0x2ff, 0x806n]);
		/* KVM says there that the vCPU has neither BTS nor PEBS. */
		expect(bootMsrs(0x1800n)).toContainEqual([0x1a0, 0x1801n]);
		expect(bootFpu().fcw).toBe(0x37f);
	});
});

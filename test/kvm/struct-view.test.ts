import { expect, test } from "vitest";
import { structView } from "../../src/kvm/struct-view.ts";
import { kvm_debugregs, kvm_irqchip, kvm_pit_state2, kvm_regs, kvm_sregs, kvm_xcrs } from "../../src/kvm/structs.ts";
import type { Vcpu } from "../../src/kvm/vcpu.ts";

test("structView reads and writes members where the layout has them", () => {
	const sregs = structView(kvm_sregs);
	sregs.cr3 = 0x1234_5678_9abc_def0n;
	sregs.gs.selector = 0x1b;
	sregs.idt.limit = 0xffff;
	expect(sregs.bytes.readBigUInt64LE(kvm_sregs.cr3)).toBe(0x1234_5678_9abc_def0n);
	expect(sregs.bytes.readUInt16LE(kvm_sregs.gs + 12)).toBe(0x1b);
	expect([sregs.gs.selector, sregs.gs.base, sregs.idt.limit]).toEqual([0x1b, 0n, 0xffff]);
	expect(sregs.structName).toBe("kvm_sregs");
	expect(sregs.bytes.filter((byte) => byte !== 0).length).toBe(8 + 1 + 2);
});

test("structView is the memory that it was given, arrays and unions included", () => {
	const bytes = Buffer.alloc(kvm_debugregs.sizeof);
	structView(kvm_debugregs, bytes).db[3] = 7n;
	expect(bytes.readBigUInt64LE(kvm_debugregs.db + 24)).toBe(7n);
	const xcrs = structView(kvm_xcrs);
	xcrs.xcrs[1]!.value = 3n;
	expect([xcrs.xcrs.length, xcrs.bytes.readBigUInt64LE(kvm_xcrs.xcrs + 16 + 8)]).toEqual([16, 3n]);
	const chip = structView(kvm_irqchip);
	chip.chip[511] = 0xff;
	expect([chip.chip.length, chip.bytes[kvm_irqchip.chip + 511]]).toEqual([512, 0xff]);
	const pit = structView(kvm_pit_state2);
	pit.channels[2]!.count_load_time = -1n;
	pit.reserved[8] = 5;
	expect([pit.channels[2]!.count_load_time, pit.bytes.readUInt32LE(kvm_pit_state2.reserved + 32)]).toEqual([-1n, 5]);
});

test("structView refuses memory that is too short or not aligned, and a member a value beyond its range", () => {
	const argument = (message: string) => expect.objectContaining({ code: "ERR_KVM_ARGUMENT", message });
	const ours = Buffer.alloc(kvm_regs.sizeof + 8);
	expect(() => structView(kvm_regs, ours.subarray(0, 143))).toThrow(
		argument("Cannot view struct kvm_regs: 143 bytes at offset 0 were given, it takes 144 at a multiple of 8"),
	);
	expect(() => structView(kvm_regs, ours.subarray(4))).toThrow(
		argument("Cannot view struct kvm_regs: 148 bytes at offset 4 were given, it takes 144 at a multiple of 8"),
	);
	expect(() => Object.assign(structView(kvm_sregs).cs, { selector: 0x1_0000 })).toThrow(RangeError);
});

test("a view of one struct is no other's, as the compiler sees it", () => {
	const set: Pick<Vcpu, "setRegs"> = { setRegs: () => undefined };
	set.setRegs(structView(kvm_regs));
	// @ts-expect-error: kvm_sregs is not kvm_regs
	set.setRegs(structView(kvm_sregs));
	// @ts-expect-error: no such segment
	expect(structView(kvm_sregs).hs).toBeUndefined();
});

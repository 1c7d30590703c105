/*
 * KVM's state of a guest, moved from one VM to another by the ioctls of Vm and Vcpu, and the pages that a guest has
 * written.
 */
import { beforeAll, describe, expect, it } from "vitest";
import {
	KVM_IRQCHIP_IOAPIC,
	KVM_IRQCHIP_PIC_MASTER,
	KVM_IRQCHIP_PIC_SLAVE,
	KVM_MEM_LOG_DIRTY_PAGES,
} from "../../src/kvm/constants.ts";
import { Kvm } from "../../src/kvm/system.ts";
import type { Vcpu } from "../../src/kvm/vcpu.ts";
import type { Vm } from "../../src/kvm/vm.ts";
import { BareGuest, buildBareGuests, writeOnly } from "./bare-guest.ts";

beforeAll(buildBareGuests);

const CHIPS = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/** In the order in which a vCPU takes it: what a register means depends on CPUID, and on XCR0 and EFER. */
function vcpuState(kvm: Kvm, vcpu: Vcpu) {
	return {
		cpuid: vcpu.getCpuid2(),
		tscKhz: vcpu.getTscKhz(),
		mpState: vcpu.getMpState(),
		regs: vcpu.getRegs(),
		sregs: vcpu.getSregs(),
		xcrs: vcpu.getXcrs(),
		xsave: vcpu.getXsave2(),
		debugregs: vcpu.getDebugregs(),
		lapic: vcpu.getLapic(),
		msrs: vcpu.getMsrs(kvm.getMsrIndexList()),
		events: vcpu.getVcpuEvents(),
	};
}

function setVcpuState(vcpu: Vcpu, state: ReturnType<typeof vcpuState>): void {
	vcpu.setCpuid2(state.cpuid);
	vcpu.setTscKhz(state.tscKhz);
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

const vmState = (vm: Vm) => ({
	chips: CHIPS.map((chip) => vm.getIrqchip(chip)),
	pit: vm.getPit2(),
	clock: vm.getClock().clock,
});

function setVmState(vm: Vm, state: ReturnType<typeof vmState>): void {
	for (const chip of state.chips) vm.setIrqchip(chip);
	vm.setPit2(state.pit);
	vm.setClock(state.clock);
}

/** A guest that prints 3000 bytes, with a mark on a port after every 500, and 18 more. */
function printing(onMark: (index: number) => void): BareGuest {
	const guest = new BareGuest("posted", { irqchip: true });
	let word = 3;
	guest.vm.createPit2();
	guest.pio.add(0x514, 4, writeOnly("mark", onMark));
	guest.mmio.add(0xd000_0000, 0x100, {
		name: "word",
		read: () => word,
		write: (offset, _size, bits) => {
			if (offset === 0x64) word &= ~bits;
		},
	});
	return guest;
}

describe("Vm and Vcpu", () => {
	it("a guest goes on in another VM where it was interrupted, with all its state", async () => {
		const kvm = Kvm.open();
		const marks: number[] = [];
		const first = printing((index) => {
			marks.push(index);
			/* Inside an access: KVM completes it before the vCPU comes back. */
			if (index === 1499) first.runLoop.kick(0);
		});
		const second = printing((index) => marks.push(index));
		expect(await first.run()).toEqual({ kind: "interrupted", vcpu: 0 });
		expect(first.output.length).toBe(1500);
		setVcpuState(second.vcpus[0]!, vcpuState(kvm, first.vcpus[0]!));
		setVmState(second.vm, vmState(first.vm));
		second.memory.write(0, first.memory.bytes(0, first.memory.sizeBytes));
		first.close();
		expect(await second.run()).toEqual({ kind: "finished", status: 0 });
		expect(marks).toEqual([499, 999, 1499, 1999, 2499, 2999]);
		const expected = String.fromCharCode(...Array.from({ length: 3000 }, (_, i) => i & 0xff));
		expect(first.output + second.output).toBe(`${expected}rep outs in one go`);
		second.close();
		kvm.close();
	});

	it("getDirtyLog tells the pages that the guest has written since the last call", async () => {
		const guest = new BareGuest("hello");
		const slot = guest.memory.windows[0]!;
		const sizeBytes = guest.memory.sizeBytes;
		guest.vm.setUserMemoryRegion({ slot: 0, gpa: 0, hva: slot.hva, sizeBytes, flags: KVM_MEM_LOG_DIRTY_PAGES });
		const log = () => guest.vm.getDirtyLog(0, sizeBytes);
		const isDirty = (bitmap: Buffer, gpa: number) => ((bitmap[gpa >>> 15]! >>> ((gpa >>> 12) & 7)) & 1) === 1;
		expect(log().length).toBe(sizeBytes / 4096 / 8);
		expect(await guest.run()).toEqual({ kind: "finished", status: 0 });
		const stack = Number(guest.vcpus[0]!.getRegs().rsp);
		const bitmap = log();
		expect(isDirty(bitmap, stack)).toBe(true);
		expect(isDirty(bitmap, sizeBytes - 4096)).toBe(false);
		expect(log().every((byte) => byte === 0)).toBe(true);
		expect(() => guest.vm.getDirtyLog(1, sizeBytes)).toThrow(/^Cannot KVM_GET_DIRTY_LOG: E(NOENT|INVAL)/);
		guest.close();
	});
});

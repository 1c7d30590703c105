/*
 * KVM's state of a guest, moved from one VM to another by the ioctls of Vm and Vcpu, and the pages that a guest has
 * written.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { KVM_MEM_LOG_DIRTY_PAGES } from "../../src/kvm/constants.ts";
import { Kvm } from "../../src/kvm/system.ts";
import { readVcpu, restoreVcpu, saveVcpu } from "../../src/kvm/vcpu-state.ts";
import { readVm, restoreVm, saveVm } from "../../src/kvm/vm-state.ts";
import { BareGuest, buildBareGuests, writeOnly } from "./bare-guest.ts";

beforeAll(buildBareGuests);

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
		restoreVcpu(second.vcpus[0]!, readVcpu("vcpu", saveVcpu(kvm, first.vcpus[0]!)));
		restoreVm(second.vm, readVm(saveVm(first.vm)));
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
		expect(guest.vm.getDirtyLog(0, sizeBytes).length).toBe(sizeBytes / 4096 / 8);
		/** Numbers of the pages that are dirty. */
		const pages = () => {
			const bitmap = guest.vm.getDirtyLog(0, sizeBytes);
			const isDirty = (page: number) => ((bitmap[page >>> 3]! >>> (page & 7)) & 1) === 1;
			return Array.from({ length: sizeBytes / 4096 }, (_, page) => page).filter(isDirty);
		};
		expect(await guest.run()).toEqual({ kind: "finished", status: 0 });
		const stack = Number(guest.vcpus[0]!.getRegs().rsp);
		const written = pages();
		expect(written).toContain(stack >>> 12);
		expect(written).not.toContain(sizeBytes / 4096 - 1);
		expect(written.length).toBeGreaterThan(1);
		/* A KVM without VT-x and SVM goes on telling a page that its emulator holds: that of the stack. */
		expect(pages().filter((page) => page !== stack >>> 12)).toEqual([]);
		expect(() => guest.vm.getDirtyLog(1, sizeBytes)).toThrow(/^Cannot KVM_GET_DIRTY_LOG: E(NOENT|INVAL)/);
		guest.close();
	});
});

import { expect, test } from "vitest";
import { Bus } from "../../src/base/bus.ts";
import {
	KVM_EXIT_FAIL_ENTRY,
	KVM_EXIT_HYPERCALL,
	KVM_EXIT_INTERNAL_ERROR,
	KVM_EXIT_INTR,
	KVM_EXIT_MMIO,
	KVM_EXIT_SHUTDOWN,
	KVM_EXIT_SYSTEM_EVENT,
	KVM_SYSTEM_EVENT_CRASH,
	KVM_SYSTEM_EVENT_RESET,
	KVM_SYSTEM_EVENT_SHUTDOWN,
} from "../../src/kvm/constants.ts";
import { kvm_run, kvm_run_emulation_failure, kvm_run_internal, kvm_run_mmio } from "../../src/kvm/structs.ts";
import type { ShutdownReason } from "../../src/machine/shutdown-reason.ts";
import { ExitHandler } from "../../src/machine/vcpu-exit.ts";

/** What ExitHandler makes of an exit: the machine's end, or undefined when the vCPU runs on. */
function endOf(reason: number, fill: (run: DataView) => void = () => undefined): ShutdownReason | undefined {
	let end: ShutdownReason | undefined;
	const handler = new ExitHandler({
		pio: new Bus(),
		mmio: new Bus(),
		end: (how) => {
			end = how;
		},
		ripOf: () => 0x1000n,
	});
	const run = new DataView(new ArrayBuffer(4096));
	run.setUint32(kvm_run.exit_reason, reason, true);
	fill(run);
	expect(handler.handle(3, run)).toBe(end === undefined);
	return end;
}

test("ExitHandler lets a kicked vCPU run on", () => {
	expect(endOf(KVM_EXIT_INTR)).toBeUndefined();
});

test("ExitHandler has a vCPU wait for what it writes to a device's register, and for no other", async () => {
	let complete: () => void = () => undefined;
	const written = new Promise<void>((resolve) => {
		complete = resolve;
	});
	const slow = { name: "slow", read: () => 0, write: () => written };
	const mmio = new Bus();
	mmio.add(0xd000_0000, 0x200, slow);
	const handler = new ExitHandler({ pio: new Bus(), mmio, end: () => undefined });
	const run = new DataView(new ArrayBuffer(4096));
	run.setUint32(kvm_run.exit_reason, KVM_EXIT_MMIO, true);
	run.setBigUint64(kvm_run.mmio + kvm_run_mmio.phys_addr, 0xd000_0070n, true);
	run.setUint32(kvm_run.mmio + kvm_run_mmio.len, 4, true);
	expect(handler.handle(0, run)).toBe(true);
	run.setUint8(kvm_run.mmio + kvm_run_mmio.is_write, 1);
	const done = handler.handle(0, run);
	expect(done).toBeInstanceOf(Promise);
	complete();
	await done;
	run.setBigUint64(kvm_run.mmio + kvm_run_mmio.phys_addr, 0xd000_1000n, true);
	expect(handler.handle(0, run)).toBe(true);
});

test("ExitHandler says where a triple fault was", () => {
	expect(endOf(KVM_EXIT_SHUTDOWN)).toEqual({ reason: "triple-fault", detail: "vCPU 3 at rip 0x1000" });
});

test("ExitHandler says where and why KVM cannot run the guest", () => {
	expect(endOf(KVM_EXIT_FAIL_ENTRY, (run) => run.setUint32(kvm_run.fail_entry, 0x80000021, true))).toEqual({
		reason: "kvm-error",
		detail: "vCPU 3 at rip 0x1000: cannot enter the guest: hardware reason 0x80000021",
	});
	const emulation = endOf(KVM_EXIT_INTERNAL_ERROR, (run) => {
		const at = kvm_run.internal;
		run.setUint32(at + kvm_run_internal.suberror, 1, true);
		run.setUint32(at + kvm_run_internal.ndata, 4, true);
		run.setUint8(at + kvm_run_emulation_failure.insn_size, 2);
		run.setUint16(at + kvm_run_emulation_failure.insn_bytes, 0x0b0f, true);
	});
	expect(emulation?.detail).toBe("vCPU 3 at rip 0x1000: internal error 1 (emulation failed), instruction bytes 0f0b");
	expect(endOf(KVM_EXIT_HYPERCALL)).toEqual({ reason: "kvm-error", detail: "vCPU 3 at rip 0x1000: exit reason 3" });
});

test("ExitHandler knows KVM's system events", () => {
	const event = (type: number) =>
		endOf(KVM_EXIT_SYSTEM_EVENT, (run) => run.setUint32(kvm_run.system_event, type, true));
	expect(event(KVM_SYSTEM_EVENT_SHUTDOWN)).toEqual({ reason: "power-off" });
	expect(event(KVM_SYSTEM_EVENT_RESET)).toEqual({ reason: "reset" });
	expect(event(KVM_SYSTEM_EVENT_CRASH)).toEqual({ reason: "kvm-error", detail: "system event 3" });
});

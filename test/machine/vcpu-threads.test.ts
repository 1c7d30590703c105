/*
 * VcpuThreads over a run loop that a test plays: when accesses of the guest wait for its console.
 */
import { expect, test } from "vitest";
import type { RunLoop } from "../../src/host/run-loop.ts";
import { KVM_EXIT_INTR, KVM_EXIT_IO } from "../../src/kvm/constants.ts";
import type { Vcpu } from "../../src/kvm/vcpu.ts";
import { VcpuThreads } from "../../src/machine/vcpu-threads.ts";

/** One vCPU that runs, and what its run loop was told last. */
function running() {
	const calls: string[] = [];
	const loop = {
		held: false,
		hold: () => {
			loop.held = true;
		},
		release: () => {
			loop.held = false;
		},
		start: () => undefined,
		kick: () => calls.push("kick"),
		resume: () => undefined,
	};
	const vcpu = { fd: 0, kvmclockCtrl: () => undefined } as unknown as Vcpu;
	const threads = new VcpuThreads(loop as unknown as RunLoop, [vcpu], 4096);
	threads.start();
	return { threads, loop, calls };
}

test("VcpuThreads.setConsoleFull makes the guest's accesses wait, and lets them go on", () => {
	const { threads, loop } = running();
	threads.setConsoleFull(true);
	expect(loop.held).toBe(true);
	threads.setConsoleFull(false);
	expect(loop.held).toBe(false);
});

test("VcpuThreads.pause does not wait for the console, and its accesses wait again after resume", async () => {
	const { threads, loop } = running();
	threads.setConsoleFull(true);
	const paused = threads.pause();
	expect(loop.held).toBe(false);
	/* What the vCPU waited in, then what the kick has made. */
	expect(threads.parks(0, KVM_EXIT_IO)).toBe(false);
	threads.setConsoleFull(true);
	expect(loop.held).toBe(false);
	expect(threads.parks(0, KVM_EXIT_INTR)).toBe(true);
	await paused;
	expect(threads.paused).toBe(true);
	threads.resume();
	expect(loop.held).toBe(true);
});

test("VcpuThreads.leaveGuest does not wait for the console", async () => {
	const { threads, loop, calls } = running();
	threads.setConsoleFull(true);
	const left = threads.leaveGuest();
	expect([loop.held, calls]).toEqual([false, ["kick"]]);
	threads.setConsoleFull(true);
	expect(loop.held).toBe(false);
	expect(threads.parks(0, KVM_EXIT_IO)).toBe(true);
	threads.stays(0);
	await left;
});

/*
 * MachineDebugger on this machine's /dev/kvm: breakpoints, steps, registers, memory, several vCPUs. The guests run in ring 0,
 * which a KVM that interprets it debugs as well.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { MachineDebugger, type Stop } from "../../src/debug/debugger.ts";
import { KVM_MP_STATE_RUNNABLE } from "../../src/kvm/constants.ts";
import { Machine } from "../../src/machine/machine.ts";
import { SnapshotImage } from "../../src/snapshot/snapshot.ts";
import { COUNT, COUNTER, POWER_OFF, SPIN, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-debugger-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

const ENDING = BigInt(TinyKernels.ENDING);
let machine: Machine | undefined;
afterEach(() => machine?.stop());

async function debugged(ending: readonly number[], cpus = 1) {
	machine = await Machine.create({ kernel: kernels.write("", ending), memoryMiB: 64, cpus });
	const debug = MachineDebugger.of(machine);
	await debug.stop();
	machine.start();
	return { machine, debug };
}

/** Runs `go`, and waits for the stop that follows. */
function stopAfter(debug: MachineDebugger, go: () => void): Promise<Stop> {
	return new Promise((resolve) => {
		const end = debug.onStop((stop) => {
			end();
			resolve(stop);
		});
		go();
	});
}

test("MachineDebugger stops before the first instruction, at hardware breakpoints, and after each step", async () => {
	const { machine, debug } = await debugged(COUNT);
	expect(machine.state).toBe("paused");
	const entry = debug.regs(0).rip;
	expect(entry).toBe(ENDING - 17n);
	debug.setHardware({ kind: "execute", address: ENDING, bytes: 1 });
	const hit = { kind: "breakpoint", vcpu: 0, address: ENDING, hardware: true };
	expect(await stopAfter(debug, () => debug.resume())).toEqual(hit);
	expect(machine.memory.u32(COUNTER)).toBe(0);
	expect(debug.removeHardware({ kind: "execute", address: ENDING, bytes: 1 })).toBe(true);
	expect(await stopAfter(debug, () => debug.step(0))).toEqual({ kind: "step", vcpu: 0 });
	expect(debug.regs(0).rip).toBe(ENDING + 6n);
	expect(machine.memory.u32(COUNTER)).toBe(1);
	expect(await stopAfter(debug, () => debug.step(0))).toEqual({ kind: "step", vcpu: 0 });
	expect(debug.regs(0).rip).toBe(ENDING);
	debug.resume();
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(100);
	expect(await stopAfter(debug, () => void debug.stop())).toEqual({ kind: "pause" });
});

test("a software breakpoint is in memory but hidden, and not in a snapshot", async () => {
	const { machine, debug } = await debugged(COUNT);
	debug.setBreakpoint(0, ENDING);
	expect(machine.memory.u8(Number(ENDING))).toBe(0xcc);
	expect(debug.readVirtual(0, ENDING, 2)).toEqual(Buffer.from(COUNT.slice(0, 2)));
	const hit = { kind: "breakpoint", vcpu: 0, address: ENDING, hardware: false };
	expect(await stopAfter(debug, () => debug.resume())).toEqual(hit);
	expect(debug.regs(0).rip).toBe(ENDING);

	const path = join(directory, "snapshot");
	await machine.snapshot(path);
	expect(machine.memory.u8(Number(ENDING))).toBe(0xcc);
	const image = await SnapshotImage.open(path);
	for await (const { bytes, offset } of image.memory.chunks(() => undefined)) {
		const at = Number(ENDING) - offset;
		if (at >= 0 && at < bytes.length) expect(bytes[at]).toBe(COUNT[0]);
	}
	await image.close();

	/* What is written over it holds after it is removed. */
	expect(debug.writeVirtual(0, ENDING, Buffer.from(POWER_OFF))).toBe(POWER_OFF.length);
	expect(debug.readVirtual(0, ENDING, POWER_OFF.length)).toEqual(Buffer.from(POWER_OFF));
	expect(await stopAfter(debug, () => debug.resume())).toEqual(hit);
	expect(debug.removeBreakpoint(ENDING)).toBe(true);
	expect(debug.removeBreakpoint(ENDING)).toBe(false);
	debug.resume();
	expect((await machine.ended).reason).toBe("power-off");
});

test("registers that were written are the guest's", async () => {
	const { machine, debug } = await debugged(SPIN);
	debug.setBreakpoint(0, ENDING);
	await stopAfter(debug, () => debug.resume());
	debug.clearBreakpoints();
	const regs = debug.regs(0);
	debug.writeVirtual(0, 0x2000n, Buffer.from([0x40, 0x89, 0x05, ...word(COUNTER), ...POWER_OFF]));
	regs.rip = 0x2000n;
	regs.rax = 41n;
	debug.setRegs(0, regs);
	expect(await stopAfter(debug, () => debug.step(0))).toEqual({ kind: "step", vcpu: 0 });
	expect(debug.regs(0).rax).toBe(42n);
	await stopAfter(debug, () => debug.step(0));
	expect(machine.memory.u32(COUNTER)).toBe(42);
	debug.resume();
	expect((await machine.ended).reason).toBe("power-off");
	expect(() => debug.regs(0)).toThrow(expect.objectContaining({ code: "ERR_DEBUG_RUNNING" }));
	debug.clearBreakpoints();
});

test("one vCPU steps while the other stays, and both stop at a breakpoint of either", async () => {
	const { machine, debug } = await debugged(SPIN, 2);
	/* The other vCPU needs no INIT here: it counts in the mode of the first. */
	machine.memory.write(0x10000, Buffer.from(COUNT));
	const counted = () => machine.memory.u32(COUNTER);
	const other = debug.vcpu(1);
	other.setSregs(debug.sregs(0));
	const regs = debug.regs(0);
	regs.rip = 0x10000n;
	other.setRegs(regs);
	other.setMpState(KVM_MP_STATE_RUNNABLE);
	debug.resume();
	await expect.poll(counted).toBeGreaterThan(0);
	await stopAfter(debug, () => void debug.stop());
	const before = counted();
	/* vCPU 0 may not have come to its end yet. */
	const at = () => debug.regs(0).rip;
	while (at() !== ENDING) await stopAfter(debug, () => debug.step(0));
	for (let i = 0; i < 5; i++) {
		expect(await stopAfter(debug, () => debug.step(0))).toEqual({ kind: "step", vcpu: 0 });
		expect(at()).toBe(ENDING);
	}
	expect(counted()).toBe(before);
	for (let i = 0; i < 4; i++) expect(await stopAfter(debug, () => debug.step(1))).toEqual({ kind: "step", vcpu: 1 });
	expect(counted()).toBe(before + 2);
	debug.setHardware({ kind: "execute", address: 0x10006n, bytes: 1 });
	const stop = await stopAfter(debug, () => debug.resume());
	expect(stop).toEqual({ kind: "breakpoint", vcpu: 1, address: 0x10006n, hardware: true });
	expect(debug.isStopped).toBe(true);
	expect(() => debug.regs(2)).toThrow(expect.objectContaining({ code: "ERR_DEBUG_VCPU" }));
	debug.clearBreakpoints();
	debug.resume();
	expect(() => debug.regs(0)).toThrow(expect.objectContaining({ code: "ERR_DEBUG_RUNNING" }));
	const now = counted();
	await expect.poll(counted).not.toBe(now);
});

test("memory that is not mapped cuts a read short, and only four hardware breakpoints fit", async () => {
	const { debug } = await debugged(SPIN);
	expect(debug.readVirtual(0, (64n << 20n) - 2n, 4)).toHaveLength(2);
	expect(debug.readVirtual(0, 0xd000_0000n, 4)).toHaveLength(0);
	expect(debug.walk(0, 0x1000n)).toMatchObject({ mode: "none", gpa: 0x1000 });
	/* No RAM is there yet: a debug register takes it. */
	for (let i = 0n; i < 4n; i++) debug.setBreakpoint(0, 0xffff_ffff_8100_0000n + i);
	expect(() => debug.setBreakpoint(0, 0xffff_ffff_8200_0000n)).toThrow(/all four debug registers are taken$/);
	expect(() => debug.setHardware({ kind: "write", address: 0x1001n, bytes: 4 })).toThrow(/fit no debug register$/);
	expect(debug.removeBreakpoint(0xffff_ffff_8100_0001n)).toBe(true);
	debug.setHardware({ kind: "write", address: 0x1004n, bytes: 4 });
	expect(debug.breakpoints.debugRegisters[7]).toBe(0x600n | 0xaan | (0xdn << 20n));
	debug.clearBreakpoints();
	expect(debug.breakpoints.control).toBe(0);
});

const word = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >> 24];

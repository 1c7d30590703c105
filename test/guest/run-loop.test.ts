/*
 * RunLoop in every state: kicks that come before the thread, starts that fail half-way, calls after the end.
 */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { BareGuest, buildBareGuests } from "./bare-guest.ts";
import { vcpuThreads } from "./threads.ts";

beforeAll(buildBareGuests);

const guests: BareGuest[] = [];
afterEach(() => {
	for (const guest of guests.splice(0)) guest.close();
});

/** A guest that spins once it has read its parameter. */
function spinning(vcpus = 1): BareGuest {
	const guest = new BareGuest("ending", { vcpus });
	guest.pio.add(0x514, 4, { name: "parameter", read: () => 4, write: () => undefined });
	guests.push(guest);
	return guest;
}

const descriptors = (): number => readdirSync("/proc/self/fd").length;
const state = (message: string) => expect.objectContaining({ code: "ERR_RUN_LOOP_STATE", message });

describe("RunLoop", () => {
	it("kick before start stops the vCPU before its first instruction", async () => {
		const guest = spinning();
		const entry = guest.vcpus[0]!.getRegs().rip;
		guest.runLoop.kick(0);
		expect(await guest.run()).toEqual({ kind: "interrupted", vcpu: 0 });
		expect(guest.vcpus[0]!.getRegs().rip).toBe(entry);
		expect(guest.output).toBe("");
		guest.runLoop.resume(0);
		await expect.poll(() => guest.output).toBe("spinning");
	});

	it("start that fails half-way leaves a loop that can be stopped, and nothing of the vCPU that failed", async () => {
		const guest = spinning(2);
		const { runLoop, vm, vcpus } = guest;
		runLoop.start(0, vcpus[0]!.fd, vm.vcpuMmapSize);
		await expect.poll(() => guest.output).toBe("spinning");
		const before = descriptors();
		expect(() => runLoop.start(1, 99_999, vm.vcpuMmapSize)).toThrow(expect.objectContaining({ code: "EBADF" }));
		expect(() => runLoop.start(1, vm.fd, vm.vcpuMmapSize)).toThrow(expect.objectContaining({ code: "ENODEV" }));
		expect([vcpuThreads(), descriptors()]).toEqual([1, before]);
		runLoop.stop();
		await expect.poll(vcpuThreads).toBe(0);
		runLoop.close();
	});

	it("start, kick and resume at the wrong time are errors, each with what was found", () => {
		const { runLoop, vm, vcpus } = spinning();
		expect(() => runLoop.resume(0)).toThrow(state("Cannot resume vCPU 0: it was not started"));
		const start = () => runLoop.start(0, vcpus[0]!.fd, vm.vcpuMmapSize);
		start();
		expect(start).toThrow(state("Cannot start vCPU 0: it was started before"));
		for (const index of [1, -1, 0.5, Number.NaN]) {
			expect(() => runLoop.kick(index)).toThrow(
				expect.objectContaining({
					code: "ERR_RUN_LOOP_VCPU",
					message: `Cannot kick vCPU ${index}: the run loop has 1`,
				}),
			);
		}
		runLoop.stop();
		expect(start).toThrow(state("Cannot start vCPU 0: the run loop was stopped"));
		expect(() => runLoop.kick(0)).toThrow(state("Cannot kick vCPU 0: the run loop was stopped"));
		runLoop.close();
		expect(() => runLoop.resume(0)).toThrow(state("Cannot resume vCPU 0: the run loop was closed"));
		expect(() => runLoop.run(0)).toThrow(state("Cannot look at vCPU 0: the run loop was closed"));
		expect(() => runLoop.registerPosted(true, 0x3f8, 1)).toThrow(
			state("Cannot register an address for a run loop: the run loop was closed"),
		);
		runLoop.stop();
		runLoop.close();
	});

	it("kick and stop reach a vCPU when no more signals can be queued", async () => {
		const limit = (...change: string[]) =>
			execFileSync("prlimit", [`--pid=${process.pid}`, ...change], { encoding: "utf8" }).trim();
		const usual = limit("--sigpending", "--noheadings", "--output=SOFT");
		const guest = spinning();
		const end = guest.run();
		await expect.poll(() => guest.output).toBe("spinning");
		limit("--sigpending=0:");
		try {
			guest.runLoop.kick(0);
			expect(await end).toEqual({ kind: "interrupted", vcpu: 0 });
			guest.runLoop.resume(0);
			guest.runLoop.stop();
			await expect.poll(vcpuThreads).toBe(0);
		} finally {
			limit(`--sigpending=${usual}:`);
		}
	});

	it("a vCPU runs on when the descriptor that it was started with is closed", async () => {
		const guest = spinning();
		const end = guest.run();
		await expect.poll(() => guest.output).toBe("spinning");
		guest.vcpus[0]!.close();
		guest.runLoop.kick(0);
		expect(await end).toEqual({ kind: "interrupted", vcpu: 0 });
		const again = guest.ended();
		guest.runLoop.resume(0);
		guest.runLoop.kick(0);
		expect(await again).toEqual({ kind: "interrupted", vcpu: 0 });
	});
});

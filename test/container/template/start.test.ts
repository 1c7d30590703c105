/*
 * startMachine, with the real agent and no VM: what happens when the guest of a template does not come back to life.
 */
import { afterEach, beforeAll, expect, test } from "vitest";
import { startMachine } from "../../../src/container/template/start.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { FakeMachine, stopAgents } from "../fake-machine.ts";

beforeAll(buildAgent);
afterEach(stopAgents);

/** A machine that ends as soon as it starts. */
function brokenMachine(): FakeMachine {
	const machine = new FakeMachine();
	machine.start = () => machine.end({ reason: "triple-fault" });
	return machine;
}

test("startMachine boots a machine in place of one whose template is bad, and says so once", async () => {
	const warnings: string[] = [];
	const made: boolean[] = [];
	const { created, running } = await startMachine(
		async (cold) => {
			made.push(cold);
			if (cold) return { guest: new FakeMachine(), cold };
			return { guest: brokenMachine(), cold, rejectTemplate: (why: unknown) => `rejected: ${(why as Error).message}` };
		},
		{ warn: (message) => warnings.push(message) },
	);
	expect(made).toEqual([false, true]);
	expect(created.cold).toBe(true);
	expect(running.times.kernel).toBeGreaterThanOrEqual(0);
	expect(warnings).toHaveLength(1);
	expect(warnings[0]).toMatch(/^rejected: Cannot run the container to its end: /);
	await running.stop();
});

test("startMachine boots none in place of a machine that has booted itself, nor after an abort", async () => {
	const never = { warn: () => expect.unreachable() };
	await expect(startMachine(async () => ({ guest: brokenMachine() }), never)).rejects.toThrow(/to its end/);
	const abort = new AbortController();
	const aborted = startMachine(
		async () => {
			abort.abort(new Error("enough"));
			return { guest: new FakeMachine(), rejectTemplate: () => expect.unreachable() };
		},
		{ ...never, signal: abort.signal },
	);
	await expect(aborted).rejects.toThrow("enough");
});

test("startMachine tells phases of a machine that was made of a template: no kernel has booted", async () => {
	const guest = Object.assign(new FakeMachine(), { restoredMs: 5 });
	const { running } = await startMachine(async () => ({ guest }), { warn: () => expect.unreachable() });
	expect(running.times).toMatchObject({ restore: 5 });
	expect(running.times.kernel).toBeUndefined();
	for (const ms of [running.times.host, running.times.agent]) expect(ms).toBeGreaterThan(0);
	await running.stop();
});

test("startMachine does not blame a template for what it was to prepare", async () => {
	const made = startMachine(async () => ({ guest: new FakeMachine(), rejectTemplate: () => expect.unreachable() }), {
		warn: () => expect.unreachable(),
		prepare: () => Promise.reject(new Error("the port is taken")),
	});
	await expect(made).rejects.toThrow("the port is taken");
});

/*
 * RunLoop over a fake helper: what it delivers, in which order, and what waits during a hold.
 */
import { beforeEach, expect, test, vi } from "vitest";
import { type native, VCPU_EXITED, VCPU_RUNNING } from "../../src/host/native.ts";
import { RunLoop } from "../../src/host/run-loop.ts";
import { FakeHelper } from "./fake-helper.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

let helper: FakeHelper;
vi.mock("../../src/host/native.ts", async (original) => ({
	...(await original<{ native: typeof native }>()),
	native: () => helper,
}));

/** A run loop with two vCPUs; `full` is asked after each posted write. */
function started(full: (value: number) => boolean = () => false) {
	const seen: string[] = [];
	const loop: RunLoop = new RunLoop(2, {
		onExit: (index) => {
			seen.push(`exit ${index}`);
			return true;
		},
		onPosted: (_address, _size, value) => {
			seen.push(`posted ${value}`);
			if (full(value)) loop.hold();
		},
		onFailed: () => undefined,
	});
	for (const index of [0, 1]) loop.start(index, 0, 16);
	return { loop, seen };
}

beforeEach(() => {
	helper = new FakeHelper();
});

test("RunLoop delivers what was posted before the exit that follows it", () => {
	const { seen } = started();
	helper.post(1);
	helper.post(2);
	helper.exit(1);
	expect(seen).toEqual(["posted 1", "posted 2", "exit 1"]);
});

test("RunLoop on hold leaves posted writes in the ring and vCPUs in their exits", async () => {
	const { loop, seen } = started((value) => value === 2);
	for (const value of [1, 2, 3, 4]) helper.post(value);
	helper.exit(0);
	helper.exit(1);
	expect(seen).toEqual(["posted 1", "posted 2"]);
	expect(helper.waiting).toBe(2);
	expect([...helper.states]).toEqual([VCPU_EXITED, VCPU_EXITED]);
	loop.release();
	expect(seen).toHaveLength(2);
	await turn();
	expect(seen).toEqual(["posted 1", "posted 2", "posted 3", "posted 4", "exit 0", "exit 1"]);
	expect([...helper.states]).toEqual([VCPU_RUNNING, VCPU_RUNNING]);
});

test("RunLoop does no work while it is on hold, and goes on once for many releases", async () => {
	const { loop, seen } = started();
	const immediate = vi.spyOn(globalThis, "setImmediate");
	loop.hold();
	helper.exit(0);
	expect(immediate).not.toHaveBeenCalled();
	loop.release();
	loop.release();
	expect(immediate).toHaveBeenCalledTimes(1);
	immediate.mockRestore();
	await turn();
	expect(seen).toEqual(["exit 0"]);
});

test("RunLoop.stop delivers what waited, and a hold that comes later holds nothing", async () => {
	const { loop, seen } = started();
	loop.hold();
	helper.post(1);
	helper.exit(0);
	loop.stop();
	loop.hold();
	loop.release();
	await turn();
	expect(seen).toEqual(["posted 1"]);
	loop.close();
});

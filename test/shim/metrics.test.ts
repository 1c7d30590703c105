/*
 * The files of a guest's control group as containerd's metrics.
 */
import { expect, test } from "vitest";
import { decode, encode } from "../../src/shim/messages.ts";
import { parseMetrics } from "../../src/shim/metrics.ts";

const GROUP = "/sys/fs/cgroup/a";

interface Metrics {
	pids: { current: number; limit: number };
	cpu: { usage_usec: number; system_usec: number };
	memory: Record<string, number>;
	memory_events: { oom_kill: number };
}

/** As containerd would read them. */
function metrics(...lines: string[]): Metrics {
	const output = lines.map((line) => `${GROUP}/${line}\n`).join("");
	return decode<Metrics>("Metrics", encode("Metrics", parseMetrics(output, GROUP)));
}

test("parseMetrics has each counter under its own name, and no limit as the largest number", () => {
	const found = metrics(
		...["pids.current:3", "pids.max:max", "cpu.stat:usage_usec 700", "cpu.stat:system_usec 300"],
		...["memory.current:4096", "memory.max:8192", "memory.stat:anon 100", "memory.stat:inactive_file 50"],
		...["memory.events:oom 2", "memory.events:oom_kill 1", "memory.swap.max:0"],
	);
	expect(found.pids).toEqual({ current: 3, limit: 2 ** 64 });
	expect(found.cpu).toMatchObject({ usage_usec: 700, system_usec: 300, nr_periods: 0 });
	expect(found.memory).toMatchObject({ usage: 4096, usage_limit: 8192, anon: 100, inactive_file: 50, swap_limit: 0 });
	expect(found.memory_events).toMatchObject({ oom: 2, oom_kill: 1 });
});

test("encode writes the largest number of 64 bits exactly", () => {
	const { pids } = parseMetrics(`${GROUP}/pids.max:max\n`, GROUP);
	expect(encode("Metrics", { pids }).toString("hex")).toBe("0a0d0800" + "10ffffffffffffffffff01");
});

test("parseMetrics has zeros for a kernel without control groups, and nothing of what a guest makes up", () => {
	for (const line of [
		"memory.current:-1",
		"memory.current:1e9",
		"memory.current:0x10",
		"memory.current:",
		"__proto__:3",
	])
		expect(metrics(line).memory.usage).toBe(0);
	expect(metrics("memory.current:99999999999999999999999").memory.usage).toBe(2 ** 64);
	expect(parseMetrics("/sys/fs/cgroup/b/memory.current:5\n", GROUP)).toMatchObject({ memory: { usage: 0 } });
});

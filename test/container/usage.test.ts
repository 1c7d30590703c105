/*
 * What a container uses, from the files of the guest's kernel.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { busyboxPath } from "../../src/container/busybox.ts";
import { containerUsage, parseUsage } from "../../src/container/usage.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const prefixed = (path: string, ...lines: string[]) => lines.map((line) => `${path}:${line}\n`).join("");
const group = (name: string, ...lines: string[]) => prefixed(`/sys/fs/cgroup/container/${name}`, ...lines);

test("parseUsage reads the files of a control group, and the interfaces", () => {
	const output = [
		group("pids.current", "3"),
		group("pids.max", "100"),
		group("memory.current", "5000"),
		group("memory.max", "max"),
		group("memory.stat", "anon 1000", "inactive_file 2000", "active_file 30"),
		group("cpu.stat", "usage_usec 123456", "user_usec 100000"),
		group("io.stat", "254:0 rbytes=10 wbytes=20 rios=1", "254:16 rbytes=1 wbytes=2 rios=1", "254:32 "),
		prefixed(
			"/proc/net/dev",
			"Inter-|   Receive                                                |  Transmit",
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs",
			"    lo:  777      1    0    0    0     0          0         0    777      1    0    0    0     0       0          0",
			"  eth0: 4000      1    0    0    0     0          0         0    500      1    0    0    0     0       0          0",
		),
	].join("");
	expect(parseUsage(output)).toEqual({
		pids: 3,
		pidsLimit: 100,
		memoryBytes: 3000,
		cpuUs: 123456,
		readBytes: 11,
		writtenBytes: 22,
		receivedBytes: 4000,
		sentBytes: 500,
	});
});
test("parseUsage has zeros for a kernel without control groups, and nothing of what a guest makes up", () => {
	const zeros = {
		pids: 0,
		memoryBytes: 0,
		cpuUs: 0,
		readBytes: 0,
		writtenBytes: 0,
		receivedBytes: 0,
		sentBytes: 0,
	};
	expect(parseUsage("")).toEqual(zeros);
	expect(parseUsage(`${group("pids.current", "-7")}${group("memory.stat", "inactive_file x")}:\n::\nx\n`)).toEqual(
		zeros,
	);
	expect(parseUsage(`${group("memory.current", "10")}${group("memory.stat", "inactive_file 20")}`)).toEqual(zeros);
});
test("containerUsage asks the agent, which needs no program of the container's", async () => {
	buildAgent();
	const directory = mkdtempSync(`${tmpdir()}/tsvmm-usage-`);
	mkdirSync(`${directory}/tools`);
	copyFileSync(await busyboxPath(), `${directory}/tools/busybox`);
	const agent = new NativeAgent(["unshare", "--mount"], ["--tools", `${directory}/tools`]);
	const client = new AgentClient(await agent.connect());
	try {
		await client.hello();
		await client.setup([
			["mount", "tmpfs\ttmpfs\t/sys/fs/cgroup\t"],
			["file", "/sys/fs/cgroup/container/pids.current\t644\t5\n"],
			["file", "/sys/fs/cgroup/container/cpu.stat\t644\tusage_usec 42\n"],
		]);
		expect(await containerUsage(client)).toMatchObject({ pids: 5, cpuUs: 42, memoryBytes: 0 });
	} finally {
		client.close();
		await agent.stop();
		rmSync(directory, { recursive: true });
	}
});

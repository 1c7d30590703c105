/*
 * EXEC with tool=NAME, by the real agent: a program of the agent's own runs in a container that has none.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { busyboxPath, isStatic } from "../../src/container/busybox.ts";
import { buildAgent, NativeAgent } from "./native-agent.ts";

const directory = mkdtempSync(`${tmpdir()}/tsvmm-tool-`);
let agent: NativeAgent;
let client: AgentClient;

beforeAll(async () => {
	buildAgent();
	mkdirSync(`${directory}/tools`);
	copyFileSync(await busyboxPath(), `${directory}/tools/busybox`);
	writeFileSync(`${directory}/tools/text`, "words", { mode: 0o755 });
	writeFileSync(`${directory}/outside`, "", { mode: 0o755 });
	agent = new NativeAgent([], ["--tools", `${directory}/tools`]);
	client = new AgentClient(await agent.connect());
	await client.hello();
	/* A root with nothing in it but one file. */
	await client.setup(
		[
			["mount", `tmpfs\ttmpfs\t${directory}/root\tmode=755`],
			["switch", `${directory}/root`],
			["file", "/etc/name\t644\tbare"],
			["mount", "proc\tproc\t/proc\t"],
		],
		"bare",
	);
});
afterAll(async () => {
	client.close();
	await agent.stop();
	rmSync(directory, { recursive: true });
});

const run = async (args: string[], spec: { tool?: string; container?: string; user?: string } = {}) => {
	const session = await client.exec({ args, tool: "busybox", container: "bare", ...spec });
	const [out, error] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
	return Buffer.concat([...out, ...error]).toString();
};

test("a tool runs in the container's root, by the name in args", async () => {
	expect(await run(["cat", "/etc/name"])).toBe("bare");
	expect(await run(["sh", "-c", "ls /; id -u; echo $PPID"], { user: "7" })).toBe("etc\nproc\n7\n0\n");
});
test("a tool sees the container's processes", async () => {
	expect(await run(["ps", "-o", "pid,comm"])).toMatch(/^PID +COMMAND\n +1 init\n +\d+ \w+\n$/);
});
test("a tool runs in the agent's own root as well", async () => {
	expect(await run(["ls", `${directory}/tools`], { container: undefined as never })).toBe("busybox\ntext\n");
});
test.each([
	["nosuch", 127, /Cannot run tool "nosuch": there is none of that name/],
	["../outside", 127, /there is none of that name/],
	["", 127, /there is none of that name/],
	["text", 126, /Cannot run "x": Exec format error/],
])("tool %j fails with %i", async (tool, exitStatus, message) => {
	await expect(run(["x"], { tool })).rejects.toMatchObject({ exitStatus, message: expect.stringMatching(message) });
});
test("a tool is never a container's init", async () => {
	await expect(client.exec({ args: ["true"], tool: "busybox", container: "bare", init: true })).rejects.toThrow(
		/Cannot run a tool as the init of container bare/,
	);
	expect(await run(["echo", "still there"])).toBe("still there\n");
});
test("isStatic knows a program that needs libraries, and what is no program", async () => {
	expect(await isStatic(`${directory}/tools/busybox`)).toBe(true);
	expect(await isStatic(process.execPath)).toBe(false);
	expect(await isStatic(`${directory}/tools/text`)).toBe(false);
});

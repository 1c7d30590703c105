/*
 * EXEC with init=1, by the real agent: the program is process 1 of its container.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import type { ExecSpec } from "../../src/agent/exec-spec.ts";
import { NativeAgent, startedAgent } from "./native-agent.ts";

const PATH = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
const native = startedAgent();

const inside = (container: string, script: string, spec: Partial<ExecSpec> = {}) =>
	native.client.exec({ args: ["sh", "-c", script], env: PATH, container, ...spec });
const asInit = (container: string, script: string, spec: Partial<ExecSpec> = {}) =>
	inside(container, script, { init: true, ...spec });
const text = async (stream: AsyncIterable<Buffer>) => {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk);
	return Buffer.concat(chunks).toString();
};

test("the program is process 1 with its own streams, and the container ends with it", async () => {
	await native.client.setup([], "one");
	const session = await asInit("one", "cat; echo $$ >&2; exit 6");
	session.stdin.end("through");
	expect(await Promise.all([text(session.stdout), text(session.stderr)])).toEqual(["through", "1\n"]);
	expect(await session.exit).toEqual({ code: 6 });
	await expect(inside("one", "true")).rejects.toThrow(/container one: there is none of that name/);
	await native.client.setup([], "one");
	await native.client.remove("one");
});
test("it reaps, and what is left of the container ends when it does", async () => {
	await native.client.setup([], "tree");
	const session = await asInit("tree", "(sleep 100 &); read x");
	const other = await inside("tree", "sleep 100");
	session.stdin.end("\n");
	expect(await session.exit).toEqual({ code: 0 });
	expect(await other.exit).toEqual({ signal: 9 });
});
test("it hears only the signals that it handles, and SIGKILL", async () => {
	await native.client.setup([], "deaf");
	const session = await asInit("deaf", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done");
	const chunks: string[] = [];
	session.stdout.on("data", (chunk) => {
		if (chunks.length === 0) for (const signal of [15, 1, 12, 10]) session.signal(signal);
		chunks.push(String(chunk));
		if (chunks.length === 2) session.signal(9);
	});
	expect(await session.exit).toEqual({ signal: 9 });
	expect(chunks).toEqual(["ready\n", "usr1\n"]);
});
test("a container has one init", async () => {
	await native.client.setup([], "twice");
	const first = await asInit("twice", "read x");
	await expect(asInit("twice", "true")).rejects.toMatchObject({
		exitStatus: 125,
		message: "Cannot run the init of container twice: it runs already",
	});
	expect(await (await inside("twice", "exit 3")).exit).toEqual({ code: 3 });
	first.stdin.end("\n");
	expect(await first.exit).toEqual({ code: 0 });
	await expect(native.client.exec({ args: ["true"], init: true })).rejects.toThrow(/Cannot run an init: no container=/);
});
test.each([
	[127, { args: ["nowhere"] }],
	[126, { args: ["/etc/passwd"] }],
	[125, { args: ["true"], user: "nosuch" }],
])("it fails with %i, and the container is gone", async (exitStatus, spec) => {
	await native.client.setup([], "bad");
	await expect(native.client.exec({ env: PATH, container: "bad", init: true, ...spec })).rejects.toMatchObject({
		exitStatus,
	});
	await expect(inside("bad", "true")).rejects.toThrow(/there is none of that name/);
});
test("it may have a terminal, or no input, and an environment of many frames", async () => {
	await native.client.setup([], "terminal");
	const session = await asInit("terminal", "stty size; echo $$", { tty: { columns: 70, rows: 20 } });
	expect(await text(session.stdout)).toBe("20 70\r\n1\r\n");
	await native.client.setup([], "null");
	const long = "x".repeat(100_000);
	const fed = await asInit("null", 'cat; echo "$A$B" | wc -c', { stdin: "null", env: { ...PATH, A: long, B: long } });
	expect(await text(fed.stdout)).toBe("200001\n");
});
test("CLOSE and REMOVE end it though it handles no signal", async () => {
	await native.client.setup([], "closed");
	const session = await asInit("closed", "exec sleep 100");
	session.close();
	expect(await session.exit).toEqual({ signal: 9 });
	await native.client.setup([], "removed");
	const other = await asInit("removed", "exec sleep 100");
	await native.client.remove("removed");
	expect(await other.exit).toEqual({ signal: 9 });
});
test("it is asked for while its container is still set up, and starts after that", async () => {
	const directory = mkdtempSync(`${tmpdir()}/tsvmm-init-`);
	const setup = native.client.setup([["wait", `${directory}/go`]], "early");
	const starting = asInit("early", "echo $$");
	writeFileSync(`${directory}/go`, "");
	await setup;
	expect(await text((await starting).stdout)).toBe("1\n");
	rmSync(directory, { recursive: true });
});
test("it does not outlive its agent, as any user", async () => {
	const mortal = new NativeAgent();
	const host = new AgentClient(await mortal.connect());
	await host.hello();
	await host.setup([], "box");
	const session = await host.exec({ args: ["sleep", "100"], env: PATH, container: "box", init: true, user: "7:8" });
	expect(readFileSync(`/proc/${session.pid}/cmdline`, "utf8")).toBe(["sleep", "100", ""].join("\0"));
	await mortal.stop();
	while (existsSync(`/proc/${session.pid}`)) await sleep(5);
	host.close();
	await expect(session.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
});

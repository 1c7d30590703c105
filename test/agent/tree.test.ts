/*
 * SETUP's `fill` with the real agent: what an image has comes into an empty volume, whole or not at all. Needs root, as the
 * whole test suite does.
 */
import {
	chmodSync,
	chownSync,
	linkSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	statSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { run } from "../../src/host/command.ts";
import { buildAgent, NativeAgent } from "./native-agent.ts";

let agent: NativeAgent;
let client: AgentClient;

beforeAll(async () => {
	buildAgent();
	agent = new NativeAgent(["unshare", "--mount", "--pid", "--fork", "--kill-child"]);
	client = new AgentClient(await agent.connect());
	await client.hello();
});
afterAll(async () => {
	client.close();
	await agent.stop();
});

/** A directory with one of each kind. */
async function makeTree(path: string): Promise<void> {
	mkdirSync(`${path}/sub/deep`, { recursive: true });
	writeFileSync(`${path}/sub/file`, Buffer.alloc(600_000, "x"));
	linkSync(`${path}/sub/file`, `${path}/hard`);
	symlinkSync("sub/none", `${path}/soft`);
	await run("mkfifo", ["-m", "604", `${path}/fifo`]);
	await run("mknod", ["-m", "620", `${path}/node`, "c", "1", "3"]);
	chownSync(`${path}/sub/file`, 70, 71);
	chmodSync(`${path}/sub/file`, 0o4751);
	utimesSync(`${path}/sub/file`, 1_000_000_000, 1_000_000_000);
	chmodSync(`${path}/sub`, 0o2770);
	chownSync(path, 70, 71);
	chmodSync(path, 0o700);
}

test("fill copies owners, modes, times and links into an empty directory", async () => {
	const [from, to] = [`${agent.directory}/from`, `${agent.directory}/to`];
	await makeTree(from);
	mkdirSync(to);
	await client.setup([["fill", `${from}\t${to}`]]);
	expect(readdirSync(to).sort()).toEqual(["fifo", "hard", "node", "soft", "sub"]);
	expect(readFileSync(`${to}/hard`).equals(readFileSync(`${from}/hard`))).toBe(true);
	expect(statSync(`${to}/hard`).ino).toBe(statSync(`${to}/sub/file`).ino);
	expect(readlinkSync(`${to}/soft`)).toBe("sub/none");
	for (const path of ["", "/sub", "/sub/file", "/fifo", "/node"]) {
		const [a, b] = [lstatSync(from + path), lstatSync(to + path)];
		expect([path, b.mode, b.uid, b.gid, b.rdev]).toEqual([path, a.mode, a.uid, a.gid, a.rdev]);
	}
	expect(statSync(`${to}/sub/file`).mtimeMs).toBe(1_000_000_000_000);
});

test("fill leaves a directory that is not empty alone, and needs nothing to copy", async () => {
	const [from, to] = [`${agent.directory}/more`, `${agent.directory}/used`];
	mkdirSync(from);
	writeFileSync(`${from}/image`, "");
	mkdirSync(to);
	writeFileSync(`${to}/own`, "");
	chmodSync(to, 0o711);
	await client.setup([
		["fill", `${from}\t${to}`],
		["fill", `${from}/none\t${to}`],
		["fill", `${from}/image\t${to}`],
	]);
	expect(readdirSync(to)).toEqual(["own"]);
	expect(statSync(to).mode & 0o777).toBe(0o711);
	await expect(client.setup([["fill", `${from}\t${to}/none`]])).rejects.toThrow(/No such file or directory/);
});

test("fill takes away again what it has copied when the disk is full", async () => {
	const [from, to] = [`${agent.directory}/large`, `${agent.directory}/small`];
	mkdirSync(`${from}/a/b`, { recursive: true });
	writeFileSync(`${from}/a/b/file`, Buffer.alloc(600_000, "x"));
	await client.setup([["mount", `tmpfs\ttmpfs\t${to}\tsize=256k`]], "small");
	await expect(client.setup([["fill", `${from}\t${to}`]], "small")).rejects.toThrow(/No space left on device/);
	const session = await client.exec({ args: ["/bin/sh", "-c", `ls -A ${to}`], container: "small" });
	expect(Buffer.concat(await session.stdout.toArray()).toString()).toBe("");
	await client.remove("small");
});

test("disk refuses an owner that is none", async () => {
	await expect(client.setup([["disk", `${agent.directory}/x\t660\troot\tdata`]])).rejects.toThrow(/Invalid argument/);
});

/*
 * Steps that take something from a container, by the real agent in namespaces of its own: mask, readonly, cgroup, and
 * mounts that keep what they cover.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { buildAgent, NativeAgent } from "./native-agent.ts";

let agent: NativeAgent;
let client: AgentClient;

beforeAll(async () => {
	buildAgent();
	agent = new NativeAgent(["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]);
	client = new AgentClient(await agent.connect());
	await client.hello();
});
afterAll(async () => {
	client.close();
	await agent.stop();
});

async function sh(container: string | undefined, script: string): Promise<string> {
	const where = container === undefined ? {} : { container };
	const session = await client.exec({ args: ["sh", "-c", script], env: { PATH: "/usr/bin:/bin" }, ...where });
	const [out, error] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
	return Buffer.concat([...out, ...error]).toString();
}

test("mask hides a file and a directory, and minds nothing that is not there", async () => {
	const there = `${agent.directory}/masked`;
	mkdirSync(`${there}/directory`, { recursive: true });
	writeFileSync(`${there}/directory/secret`, "secret");
	writeFileSync(`${there}/file`, "secret");
	const paths = ["file", "directory", "missing", "file/below"].map((name) => `${there}/${name}`);
	await client.setup(
		paths.map((path) => ["mask", path] as const),
		"masked",
	);
	expect(await sh("masked", `cd ${there}; cat file; ls directory; stat -c %F file; echo x > directory/new`)).toMatch(
		/^character special file\n.*directory\/new: Read-only file system\n$/,
	);
	expect(readFileSync(`${there}/file`, "utf8")).toBe("secret");
	await client.remove("masked");
});
test("readonly keeps a container from writing, whatever else its mount forbids", async () => {
	const there = `${agent.directory}/protected`;
	mkdirSync(there);
	await client.setup(
		[
			["mount", `tmpfs\ttmpfs\t${there}\tnosuid,nodev,noexec,mode=755`],
			["file", `${there}/file\t644\tkept`],
			["readonly", there],
			["readonly", `${there}/missing`],
		],
		"protected",
	);
	const script = `cat ${there}/file; echo x > ${there}/file; grep " ${there} " /proc/mounts | tail -n 1`;
	const answer = await sh("protected", script);
	expect(answer).toMatch(/^kept/);
	expect(answer).toMatch(/Read-only file system/);
	expect(answer).toMatch(/ tmpfs ro,nosuid,nodev,noexec,/);
	await client.remove("protected");
});
test("the root becomes read-only by a remount, what is mounted in it does not", async () => {
	const root = `${agent.directory}/root`;
	mkdirSync(root);
	const binds = ["bin", "lib", "lib64", "usr"].map((name) => ["mount", `\t/${name}\t${root}/${name}\tbind`] as const);
	await client.setup(
		[
			["mount", `tmpfs\ttmpfs\t${root}\tmode=755`],
			...binds,
			["switch", root],
			["mount", "tmpfs\ttmpfs\t/tmp\t"],
			["mount", "\t\t/\tremount,bind,ro"],
		],
		"root",
	);
	expect(await sh("root", "echo x > /tmp/file && cat /tmp/file; echo x > /file")).toMatch(
		/^x\n.*file: Read-only file system\n$/,
	);
	await client.remove("root");
});
test("a tmpfs has the mode of the directory that it covers, and options take flags back", async () => {
	const there = `${agent.directory}/sticky`;
	mkdirSync(there);
	await client.setup(
		[
			["directory", `${there}/a\t1770`],
			["directory", `${there}/a\t`],
			["mount", `tmpfs\ttmpfs\t${there}/a\tnoexec,nosuid,nodev,exec,size=8k`],
			["mount", `tmpfs\ttmpfs\t${there}/b\tmode=700`],
		],
		"sticky",
	);
	const script = `cd ${there}; stat -c %a a b; grep " ${there}/a " /proc/mounts`;
	expect(await sh("sticky", script)).toMatch(/^1770\n700\n\S+ \S+ tmpfs rw,nosuid,nodev,relatime,size=8k,/);
	await client.remove("sticky");
});
test("cgroup makes a group, limits it, and shows it to the container as the root", async () => {
	const name = `tsvmm-test-${process.pid}`;
	const directory = `/sys/fs/cgroup/${name}`;
	await client.setup([["mount", "cgroup2\tcgroup\t/sys/fs/cgroup\t"]]);
	await client.setup(
		[
			["namespaces", "uts,cgroup"],
			["cgroup", `${name}\tcgroup.max.depth=3\tcgroup.max.descendants=4`],
		],
		"grouped",
	);
	const own = "grep ^0: /proc/self/cgroup";
	expect(await sh("grouped", own)).toBe("0::/\n");
	const limits = `cat ${directory}/cgroup.max.depth ${directory}/cgroup.max.descendants`;
	expect(await sh(undefined, limits)).toBe("3\n4\n");
	const session = await client.exec({
		args: ["sleep", "100"],
		env: { PATH: "/bin" },
		container: "grouped",
		init: true,
	});
	/* A group below, for the init alone. A process that enters the container later joins it, too. */
	await sh(undefined, `mkdir ${directory}/below; echo ${session.pid} > ${directory}/below/cgroup.procs`);
	expect(await sh("grouped", own)).toBe("0::/below\n");
	await client.remove("grouped");
	expect(await sh(undefined, `ls -d ${directory}`)).toMatch(/No such file/);
});
test.each([
	["outside of a container's first SETUP", undefined, [["cgroup", "x"]], /Operation not permitted/],
	["with a name that leads elsewhere", "bad", [["cgroup", "../x"]], /Invalid argument/],
	["with a name of dots", "bad", [["cgroup", ".."]], /Invalid argument/],
	["with a setting that leads elsewhere", "bad", [["cgroup", "tsvmm-no\t../x=1"]], /Invalid argument/],
	[
		"with a limit of which the kernel knows nothing",
		"bad",
		[["cgroup", "tsvmm-no\tnone.max=1"]],
		/No such file|denied/,
	],
] as const)("cgroup is refused %s", async (_how, container, steps, message) => {
	await expect(client.setup(steps, container)).rejects.toThrow(message);
	expect(existsSync("/sys/fs/cgroup/tsvmm-no")).toBe(false);
});

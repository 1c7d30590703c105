/*
 * SETUP with the real agent in namespaces of its own: an overlay as new root, files, nodes and an interface, then a
 * process inside. Needs root, as the whole test suite does.
 */
import { mkdirSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { findTool, run } from "../../src/host/command.ts";
import { buildAgent, NativeAgent } from "./native-agent.ts";

let agent: NativeAgent;
let client: AgentClient;

beforeAll(async () => {
	buildAgent();
	agent = new NativeAgent(["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child"]);
	client = new AgentClient(await agent.connect());
	await client.hello();
});
afterAll(async () => {
	client.close();
	await agent.stop();
});

const sh = async (script: string) => {
	const session = await client.exec({ args: ["/bin/sh", "-c", script], env: { PATH: "/bin" }, user: "guest" });
	let output = "";
	session.stdout.on("data", (chunk) => {
		output += chunk;
	});
	session.stderr.on("data", (chunk) => {
		output += chunk;
	});
	await session.exit;
	await new Promise((resolve) => setImmediate(resolve));
	return output;
};

test("setup names the step that failed", async () => {
	await expect(client.setup([["mount", "nofs\tnone\t/mnt\t"]])).rejects.toMatchObject({
		exitStatus: 125,
		message: "Cannot set up the guest: mount nofs none /mnt: No such device",
	});
	await expect(client.setup([["dance", ""]])).rejects.toThrow(/no step is called "dance"/);
	await expect(client.setup([["sysctl", "no/such\t1"]])).rejects.toThrow(/sysctl no\/such/);
	await client.setup([["sysctl?", "no/such\t1"]]);
});

test("setup builds a root on an overlay, enters it, and processes see only that", async () => {
	const busybox = findTool("busybox")!;
	const lower = `${agent.folder}/lower`;
	mkdirSync(`${lower}/bin`, { recursive: true });
	mkdirSync(`${lower}/etc`);
	await run("busybox", ["--install", "-s", `${lower}/bin`]);
	await run("cp", ["-L", "--remove-destination", busybox, `${lower}/bin/busybox`]);
	await run("sh", [
		"-c",
		`echo guest:x:7:8::/home/guest:/bin/sh > ${lower}/etc/passwd; ln -s . ${lower}/usr; ln -s ../run/none ${lower}/etc/resolv.conf`,
	]);
	const root = `${agent.folder}/root`;
	const writable = `${agent.folder}/writable`;
	await client.setup([
		["mount", "\tnone\t/\trprivate"],
		["mount", `tmpfs\ttmpfs\t${writable}\t`],
		["folder", `${writable}/upper\t755`],
		["folder", `${writable}/work\t755`],
		["mount", `overlay\toverlay\t${root}\tlowerdir=${lower},upperdir=${writable}/upper,workdir=${writable}/work`],
		["switch", root],
		["mount", "proc\tproc\t/proc\tnosuid"],
		["mount", "tmpfs\tdev\t/dev\tmode=755"],
		["node", "/dev/null\t666\t1\t3"],
		["folder", "/dev/pts\t755"],
		["mount", "devpts\tdevpts\t/dev/pts\tnewinstance,ptmxmode=0666,mode=0620"],
		["link", "pts/ptmx\t/dev/ptmx"],
		["hostname", "box"],
		["file", "/etc/resolv.conf\t644\tnameserver 10.0.2.3\n"],
		["up", "lo"],
		["address", "lo\t127.0.0.5/8"],
		["gateway", "127.0.0.9"],
		["sysctl", "net/ipv4/ping_group_range\t0 2147483647"],
	]);
	expect(await sh("hostname; id; echo $HOME; cat /etc/resolv.conf; ls /; echo x > /dev/null && echo fine")).toBe(
		"box\nuid=7(guest) gid=8 groups=8\n/home/guest\nnameserver 10.0.2.3\nbin\ndev\netc\nproc\nusr\nfine\n",
	);
	expect(await sh("ip -o -4 addr show lo; cat /proc/sys/net/ipv4/ping_group_range")).toMatch(
		/127\.0\.0\.5\/8.*\n0\t2147483647/s,
	);
	const session = await client.exec({ args: ["tty"], env: { PATH: "/bin" }, tty: { columns: 80, rows: 24 } });
	session.stdout.on("data", (chunk) => expect(String(chunk)).toBe("/dev/pts/0\r\n"));
	expect(await session.exit).toEqual({ code: 0 });
});

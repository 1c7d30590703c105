/*
 * SETUP with the real agent in namespaces of its own: an overlay as new root, files, nodes and an interface, then a
 * process inside. Needs root, as the whole test suite does.
 */
import { linkSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { run } from "../../src/host/command.ts";
import { findTool } from "../../src/host/tools.ts";
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
	const session = await client.exec({
		args: ["/bin/sh", "-c", script],
		env: { PATH: "/bin" },
		user: "guest",
		container: "box",
	});
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
	await expect(client.setup([["unbind", "d0003000"]])).rejects.toThrow(/unbind d0003000.*No such device/);
});

test("setup builds a root on an overlay, enters it, and processes see only that", async () => {
	const busybox = findTool("busybox")!;
	const lower = `${agent.directory}/lower`;
	mkdirSync(`${lower}/bin`, { recursive: true });
	mkdirSync(`${lower}/etc`);
	await run("busybox", ["--install", "-s", `${lower}/bin`]);
	await run("cp", ["-L", "--remove-destination", busybox, `${lower}/bin/busybox`]);
	await run("sh", [
		"-c",
		`echo guest:x:7:8::/home/guest:/bin/sh > ${lower}/etc/passwd; ln -s . ${lower}/usr; ln -s ../run/none ${lower}/etc/resolv.conf`,
	]);
	const root = `${agent.directory}/root`;
	const writable = `${agent.directory}/writable`;
	await client.setup(
		[
			["mount", `tmpfs\ttmpfs\t${writable}\t`],
			["directory", `${writable}/upper\t755`],
			["directory", `${writable}/work\t755`],
			["mount", `overlay\toverlay\t${root}\tlowerdir=${lower},upperdir=${writable}/upper,workdir=${writable}/work`],
			["switch", root],
			["mount", "proc\tproc\t/proc\tnosuid"],
			["mount", "tmpfs\tdev\t/dev\tmode=755"],
			["node", "/dev/null\t666\t1\t3"],
			["directory", "/dev/pts\t755"],
			["mount", "devpts\tdevpts\t/dev/pts\tnewinstance,ptmxmode=0666,mode=0620"],
			["link", "pts/ptmx\t/dev/ptmx"],
			["hostname", "box"],
			["file", "/etc/resolv.conf\t644\tnameserver 10.0.2.3\n"],
			["up", "lo"],
			["address", "lo\t127.0.0.5/8"],
			["gateway", "127.0.0.9"],
			["sysctl", "net/ipv4/ping_group_range\t0 2147483647"],
		],
		"box",
	);
	expect(await sh("hostname; id; echo $HOME; cat /etc/resolv.conf; ls /; echo x > /dev/null && echo fine")).toBe(
		"box\nuid=7(guest) gid=8 groups=8\n/home/guest\nnameserver 10.0.2.3\nbin\ndev\netc\nproc\nusr\nfine\n",
	);
	expect(await sh("ip -o -4 addr show lo; cat /proc/sys/net/ipv4/ping_group_range")).toMatch(
		/127\.0\.0\.5\/8.*\n0\t2147483647/s,
	);
	const session = await client.exec({
		args: ["tty"],
		env: { PATH: "/bin" },
		container: "box",
		tty: { columns: 80, rows: 24 },
	});
	session.stdout.on("data", (chunk) => expect(String(chunk)).toBe("/dev/pts/0\r\n"));
	expect(await session.exit).toEqual({ code: 0 });
});

const output = async (container: string, script: string): Promise<string> => {
	const session = await client.exec({ args: ["/bin/sh", "-c", script], env: { PATH: "/usr/bin:/bin" }, container });
	const chunks: Buffer[] = [];
	session.stderr.resume();
	for await (const chunk of session.stdout) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks).toString();
};

describe("containers of one agent", () => {
	test("have names, mounts and processes of their own, and the agent keeps its own", async () => {
		await client.setup(
			[
				["hostname", "one"],
				["mount", "tmpfs\ttmpfs\t/mnt\t"],
				["file", "/mnt/who\t644\tfirst"],
			],
			"one",
		);
		await client.setup(
			[
				["hostname", "two"],
				["mount", "tmpfs\ttmpfs\t/mnt\t"],
				["file", "/mnt/who\t644\tsecond"],
			],
			"two",
		);
		expect(await output("one", "hostname; cat /mnt/who; echo $$")).toMatch(/^one\nfirst[2-9]\n$/);
		expect(await output("two", "hostname; cat /mnt/who")).toBe("two\nsecond");
		const own = await client.exec({ args: ["/bin/sh", "-c", "hostname; ls /mnt/who"], env: { PATH: "/usr/bin:/bin" } });
		const chunks = await own.stdout.toArray();
		expect(Buffer.concat(chunks).toString()).not.toMatch(/one|two/);
		own.stderr.resume();
		await client.setup([["file", "/mnt/more\t600\tlater"]], "one");
		expect(await output("one", "cat /mnt/more; stat -c %a /mnt/more")).toBe("later600\n");
		await client.remove("one");
		await client.remove("two");
	});
	test("end with everything in them when they are removed", async () => {
		await client.setup([], "short");
		const session = await client.exec({
			args: ["/bin/sh", "-c", "trap '' HUP TERM; sleep 100 & sleep 100"],
			env: { PATH: "/usr/bin:/bin" },
			container: "short",
		});
		await client.remove("short");
		expect(await session.exit).toEqual({ signal: 9 });
		await expect(client.exec({ args: ["true"], container: "short" })).rejects.toThrow(/container short: there is none/);
		await expect(client.remove("short")).rejects.toThrow(/Cannot remove the container: there is none of that name/);
		await client.setup([], "short");
		await client.remove("short");
	});
	test("get namespaces of another one: its name, its System V objects, its processes", async () => {
		await client.setup([["hostname", "pod"]], "first");
		await client.setup([["join", "first\tuts,ipc"]], "second");
		await client.setup(
			[
				["namespaces", "uts"],
				["hostname", "third"],
				["join", "second\tipc"],
				["join", "first\tpid"],
				["mount", "proc\tproc\t/proc\t"],
			],
			"third",
		);
		const same = (kind: string) => `readlink /proc/self/ns/${kind}`;
		const spaces = async (kind: string) =>
			Promise.all(["first", "second", "third"].map((name) => output(name, same(kind))));
		const [uts, ipc, pid, mnt] = await Promise.all(["uts", "ipc", "pid", "mnt"].map(spaces));
		expect([uts![0] === uts![1], uts![0] === uts![2]]).toEqual([true, false]);
		expect([ipc![0] === ipc![1], ipc![0] === ipc![2]]).toEqual([true, true]);
		expect([pid![0] === pid![1], pid![0] === pid![2]]).toEqual([false, true]);
		expect(new Set(mnt).size).toBe(3);
		expect(await output("second", "hostname")).toBe("pod\n");
		expect(await output("third", "hostname")).toBe("third\n");
		/* Process 1 there is the first one's. */
		const session = await client.exec({
			args: ["sleep", "100"],
			env: { PATH: "/bin" },
			container: "third",
			init: true,
		});
		expect(await output("third", "cat /proc/1/comm; pidof sleep | wc -w")).toBe("init\n1\n");
		await client.remove("second");
		await client.remove("first");
		expect(await session.exit).toEqual({ signal: 9 });
	});
	test.each([
		["none\tuts", /No such process/],
		["there\tnames", /Invalid argument/],
		["there\tcgroup", /Invalid argument/],
		["there", /Invalid argument/],
		[`${"x".repeat(65)}\tuts`, /Invalid argument/],
	])("cannot join %j", async (fields, why) => {
		await client.setup([], "there");
		await expect(client.setup([["join", fields]], "guest")).rejects.toThrow(why);
		await client.setup([], "guest"); /* nothing is left of it */
		await client.remove("guest");
		await client.remove("there");
	});
	test("are gone when their first set-up fails, and cannot have any name", async () => {
		await expect(client.setup([["dance", ""]], "bad")).rejects.toThrow(/no step is called "dance"/);
		await expect(client.exec({ args: ["true"], container: "bad" })).rejects.toThrow(/there is none of that name/);
		await expect(client.setup([], "../x")).rejects.toThrow(/no name of a container/);
		await expect(client.setup([["switch", "/"]])).rejects.toThrow(/switch \/.*Operation not permitted/);
	});
	test("have terminals of their own", async () => {
		await client.setup([], "terminal");
		const tty = { columns: 70, rows: 20 };
		const session = await client.exec({
			args: ["/bin/sh", "-c", "stty size; read x; echo $x"],
			container: "terminal",
			tty,
		});
		session.stdin.write("word\n");
		const lines = Buffer.concat(await session.stdout.toArray())
			.toString()
			.split("\r\n");
		expect(lines.sort()).toEqual(["", "20 70", "word", "word"]); /* the echo of what we type comes when it comes */
		await client.remove("terminal");
	});
});

test("setup replaces whatever is in a file's place, and follows no link there", async () => {
	const there = `${agent.directory}/place`;
	mkdirSync(`${there}/directory/deep`, { recursive: true });
	writeFileSync(`${there}/directory/deep/file`, "");
	writeFileSync(`${there}/other`, "untouched");
	linkSync(`${there}/other`, `${there}/hard`);
	symlinkSync("other", `${there}/soft`);
	await run("mkfifo", [`${there}/fifo`]);
	for (const name of ["directory", "hard", "soft", "fifo", "new"]) {
		await client.setup([["file", `${there}/${name}\t640\tmine`]]);
		expect(lstatSync(`${there}/${name}`).mode).toBe(0o100640);
		expect(readFileSync(`${there}/${name}`, "utf8")).toBe("mine");
	}
	expect(readFileSync(`${there}/other`, "utf8")).toBe("untouched");
});

test("setup removes a directory of an overlay that is in a file's place, but nothing that is mounted in it", async () => {
	const there = `${agent.directory}/layers`;
	for (const name of ["lower/etc/hosts/deep", "writable", "root"]) mkdirSync(`${there}/${name}`, { recursive: true });
	writeFileSync(`${there}/lower/etc/hosts/deep/file`, "");
	writeFileSync(`${there}/lower/etc/hosts/file`, "");
	const upper = `${there}/writable`;
	await client.setup(
		[
			["mount", `tmpfs\ttmpfs\t${upper}\t`],
			["directory", `${upper}/upper\t755`],
			["directory", `${upper}/work\t755`],
			[
				"mount",
				`overlay\toverlay\t${there}/root\tlowerdir=${there}/lower,upperdir=${upper}/upper,workdir=${upper}/work`,
			],
			["file", `${there}/root/etc/hosts\t644\tmine`],
			["directory", `${there}/root/etc/volume/data\t755`],
			["mount", `tmpfs\ttmpfs\t${there}/root/etc/volume/data\t`],
			["file", `${there}/root/etc/volume/data/kept\t644\tkept`],
		],
		"layers",
	);
	await expect(client.setup([["file", `${there}/root/etc/volume\t644\t`]], "layers")).rejects.toThrow(/busy/);
	expect(await output("layers", `cat ${there}/root/etc/hosts ${there}/root/etc/volume/data/kept`)).toBe("minekept");
	await client.remove("layers");
});

test("setup that waits leaves the agent free for everybody else", async () => {
	const awaited = `${agent.directory}/awaited`;
	let ready = false;
	const waiting = client.setup([["wait", awaited]]).then(() => {
		ready = true;
	});
	await client.setup([["hostname", "quick"]]);
	expect(await client.ping()).toBeGreaterThan(0);
	expect(ready).toBe(false);
	writeFileSync(awaited, "");
	await waiting;
});

test("setup refuses mount options that the kernel would not see whole", async () => {
	const options = `size=1m,${"x".repeat(5000)}`;
	await expect(client.setup([["mount", `tmpfs\ttmpfs\t/mnt\t${options}`]])).rejects.toThrow(/File ?name too long/);
});

test("exec does not wait for a passwd file that is a FIFO", async () => {
	const root = `${agent.directory}/fifo-root`;
	mkdirSync(`${root}/etc`, { recursive: true });
	mkdirSync(`${root}/bin`);
	await run("mkfifo", [`${root}/etc/passwd`, `${root}/etc/group`]);
	await run("cp", ["-L", findTool("busybox")!, `${root}/bin/busybox`]);
	const session = await client.exec({ args: ["/bin/busybox", "echo", "7"], root, user: "7:8" });
	expect(Buffer.concat(await session.stdout.toArray()).toString()).toBe("7\n");
});

test("setup waits for an interface by its Ethernet address, and gives it its name", async () => {
	/* Loopback is the only one here, and has the address of all zeroes; one that is down may get another name. */
	await client.setup([["interface", "00:00:00:00:00:00\tlo"]]);
	await expect(client.setup([["interface", "00:00:00:00:00:00\tan interface with a long name"]])).rejects.toThrow(
		/interface 00:00:00:00:00:00/,
	);
});

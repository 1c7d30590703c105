/*
 * AgentClient against the real agent, run natively: what a process in the guest sees and what comes back.
 */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ExecSpec } from "../../src/agent/exec-spec.ts";
import { startedAgent } from "./native-agent.ts";

const native = startedAgent();

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk);
	return Buffer.concat(chunks).toString();
}

const PATH = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };

async function run(spec: ExecSpec, input?: string) {
	const session = await native.client.exec({ env: PATH, ...spec });
	session.stdin.end(input);
	const [stdout, stderr, exit] = await Promise.all([text(session.stdout), text(session.stderr), session.exit]);
	return { stdout, stderr, exit };
}

const sh = (script: string, spec: Partial<ExecSpec> = {}) => run({ args: ["sh", "-c", script], ...spec });

describe("AgentClient.exec", () => {
	test("hello tells the agent's pid", async () => {
		expect((await native.client.hello({ forget: false })).pid).toBe(native.agent.process.pid);
	});
	test("exec separates stdout and stderr and reports exit code 42", async () => {
		expect(await sh("echo out; echo err >&2; exit 42")).toEqual({
			stdout: "out\n",
			stderr: "err\n",
			exit: { code: 42 },
		});
	});
	test("exec gives exactly the environment asked for, and HOME", async () => {
		const { stdout } = await run({ args: ["env"], env: { A: "1=2", B: "", PATH: "/usr/bin:/bin" } });
		expect(stdout.split("\n").sort()).toEqual(["", "A=1=2", "B=", "HOME=/root", "PATH=/usr/bin:/bin"]);
	});
	test("exec passes an environment larger than one frame", async () => {
		const value = "x".repeat(100_000);
		const { stdout } = await sh('echo "$A$B" | wc -c', { env: { ...PATH, A: value, B: value } });
		expect(stdout.trim()).toBe("200001");
	});
	test("exec refuses a list beyond 2 MiB, and runs nothing that its rest may spell", async () => {
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
		try {
			const script = join(directory, "stray-program");
			writeFileSync(script, `#!/bin/sh\n: >${directory}/ran\n`, { mode: 0o755 });
			const args = new Array<string>(100_000).fill(script);
			await expect(native.client.exec({ args, env: PATH })).rejects.toMatchObject({ exitStatus: 126, errno: 7 });
			expect(await sh("echo next")).toMatchObject({ stdout: "next\n", exit: { code: 0 } });
			expect(existsSync(join(directory, "ran"))).toBe(false);
		} finally {
			rmSync(directory, { recursive: true });
		}
	});
	test("exec runs in the directory asked for and creates it", async () => {
		const directory = `${native.agent.directory}/new/deep`;
		expect((await sh("pwd", { cwd: directory })).stdout).toBe(`${directory}\n`);
	});
	test("exec refuses a directory that is missing when it may not create it", async () => {
		await expect(sh("pwd", { cwd: "/nowhere", createCwd: false })).rejects.toThrow(/Cannot enter directory \/nowhere/);
	});
	test("exec becomes a user by name, with its group and home", async () => {
		const { stdout } = await sh("id -u; id -g; echo $HOME; echo hi > /dev/stdout", { user: "daemon" });
		expect(stdout).toBe("1\n1\n/usr/sbin\nhi\n");
	});
	test("exec becomes uid:gid that no file knows", async () => {
		expect((await sh("id -u; id -g; id -G; echo $HOME", { user: "12345:54321" })).stdout).toBe(
			"12345\n54321\n54321\n/\n",
		);
	});
	test("exec names a user that does not exist, with status 125", async () => {
		await expect(sh("id", { user: "nosuch" })).rejects.toMatchObject({
			exitStatus: 125,
			message: "Unable to find user nosuch: no matching entries in passwd file",
		});
		await expect(sh("id", { user: "root:nosuch" })).rejects.toThrow(/Unable to find group nosuch/);
	});
	test("exec fails with 127 for a command that is not there", async () => {
		await expect(run({ args: ["no-such-command"] })).rejects.toMatchObject({ exitStatus: 127 });
		await expect(run({ args: ["/no/such"] })).rejects.toMatchObject({ exitStatus: 127, code: "ERR_EXEC_NOT_FOUND" });
	});
	test("exec fails with 126 for what is not executable", async () => {
		await expect(run({ args: ["/etc/passwd"] })).rejects.toMatchObject({ exitStatus: 126 });
		await expect(run({ args: ["/etc"] })).rejects.toMatchObject({ exitStatus: 126, code: "ERR_EXEC_REFUSED" });
	});
	test("exec with stdin null reads end of file", async () => {
		expect((await run({ args: ["cat"], stdin: "null" })).exit).toEqual({ code: 0 });
	});
	test("exec returns when the process ends though a grandchild holds its output", async () => {
		const start = performance.now();
		expect((await sh("echo a; sleep 3 & exit 3")).exit).toEqual({ code: 3 });
		expect(performance.now() - start).toBeLessThan(2500);
	});
	test("signal ends the process with that signal", async () => {
		const session = await native.client.exec({ args: ["sleep", "60"], env: PATH });
		session.signal(15);
		expect(await session.exit).toEqual({ signal: 15 });
	});
	test("close hangs up and then kills a process that ignores it", async () => {
		const session = await native.client.exec({ args: ["sh", "-c", "trap '' HUP; echo ready; sleep 60; :"], env: PATH });
		await new Promise((resolve) => session.stdout.once("data", resolve));
		session.close();
		expect(await session.exit).toEqual({ signal: 9 });
	});
});

describe("Session streams", () => {
	test("cat returns 64 MiB byte-exact with bounded memory", async () => {
		const block = randomBytes(1 << 20);
		const sent = createHash("sha256");
		const received = createHash("sha256");
		const session = await native.client.exec({ args: ["cat"], env: PATH });
		const before = process.memoryUsage().arrayBuffers;
		let most = 0;
		const read = (async () => {
			let length = 0;
			for await (const chunk of session.stdout as AsyncIterable<Buffer>) {
				received.update(chunk);
				length += chunk.length;
				most = Math.max(most, process.memoryUsage().arrayBuffers);
			}
			return length;
		})();
		for (let i = 0; i < 64; i++) {
			sent.update(block);
			if (!session.stdin.write(block)) await new Promise((resolve) => session.stdin.once("drain", resolve));
		}
		session.stdin.end();
		expect(await read).toBe(64 << 20);
		expect(received.digest("hex")).toBe(sent.digest("hex"));
		expect(await session.exit).toEqual({ code: 0 });
		expect(most - before).toBeLessThan(48 << 20);
	}, 60_000);
	test("a reader that waits stops only its own session", async () => {
		const slow = await native.client.exec({ args: ["head", "-c", "4000000", "/dev/zero"], env: PATH });
		const deaf = await native.client.exec({ args: ["sleep", "60"], env: PATH });
		deaf.stdin.write(Buffer.alloc(1 << 20));
		expect((await sh("echo quick")).stdout).toBe("quick\n");
		expect(deaf.stdin.writableNeedDrain).toBe(true);
		expect((await text(slow.stdout)).length).toBe(4000000);
		deaf.close();
		await deaf.exit;
	});
	test("a process that closes its input ends without taking it", async () => {
		const session = await native.client.exec({ args: ["true"], env: PATH });
		session.stdin.end(Buffer.alloc(3 << 20));
		await new Promise((resolve) => session.stdin.once("finish", resolve));
		expect(await session.exit).toEqual({ code: 0 });
	});
	test("a hundred sessions at once each get their own output", async () => {
		const all = await Promise.all(Array.from({ length: 100 }, (_, i) => run({ args: ["cat"] }, `session ${i}`)));
		expect(all.map((one) => one.stdout)).toEqual(Array.from({ length: 100 }, (_, i) => `session ${i}`));
	}, 30_000);
});

describe("Session with a terminal", () => {
	test("the terminal has the size asked for and follows resize", async () => {
		const script = "trap 'stty size; exit 0' WINCH; stty size; tty; while :; do sleep 0.05; done";
		const tty = { columns: 100, rows: 30 };
		const session = await native.client.exec({ args: ["sh", "-c", script], env: { ...PATH, TERM: "xterm" }, tty });
		let output = "";
		session.stdout.on("data", (chunk: Buffer) => {
			if (!output.includes("/dev/pts/") && `${output}${chunk}`.includes("/dev/pts/")) session.resize(120, 40);
			output += chunk;
		});
		expect(await session.exit).toEqual({ code: 0 });
		expect(output).toMatch(/^30 100\r\n\/dev\/pts\/\d+\r\n40 120\r\n$/);
	});
	test("^C through the terminal interrupts", async () => {
		const session = await native.client.exec({ args: ["sleep", "60"], env: PATH, tty: { columns: 80, rows: 24 } });
		session.stdin.write("\x03");
		expect(await session.exit).toEqual({ signal: 2 });
	});
	test("all output of a terminal arrives before exit", async () => {
		const session = await native.client.exec({ args: ["seq", "20000"], env: PATH, tty: { columns: 80, rows: 24 } });
		const [output, exit] = await Promise.all([text(session.stdout), session.exit]);
		expect(exit).toEqual({ code: 0 });
		expect(output.split("\r\n").length).toBe(20001);
	});
});

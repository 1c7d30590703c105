/*
 * Debian's gdb on a Linux guest, with the symbols of our minimal kernel: before its first instruction, when it runs, and on a
 * core dump of it. gdb runs on this machine, and the port of the guest's machine is published from the lab. The lab's processor
 * stops at no breakpoint, so Linux meets its first ones on this machine's own /dev/kvm, which the last test needs. A KVM that
 * interprets it comes so far.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { publishPorts } from "../../src/lab/published-ports.ts";
import { Linux, testKernel } from "./linux.ts";

let linux: Linux;
beforeAll(async () => {
	linux = await Linux.up();
});
afterAll(async () => {
	await linux?.down();
});

/** A port of this machine that nobody has. */
async function freePort(): Promise<number> {
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port } = server.address() as { port: number };
	await new Promise((resolve) => server.close(resolve));
	return port;
}

async function gdb(file: string, ...commands: string[]): Promise<string> {
	const words = ["set pagination off", "set tcp connect-timeout 60", "set remotetimeout 60", ...commands];
	const args = ["--nx", "--quiet", "--batch", file, ...words.flatMap((command) => ["-ex", command])];
	const { stdout, stderr } = await promisify(execFile)("gdb", args, { maxBuffer: 16 << 20 });
	return stdout + stderr;
}

test("gdb stops Linux before its first instruction and when it runs, and reads its core dump", async () => {
	const { vmlinux } = await testKernel("minimal");
	const symbols = `${vmlinux}.debug`;
	const port = await freePort();
	const guest = await linux.spawn({
		kernel: "minimal",
		cpus: 2,
		script: "echo ready; read word; echo $word; poweroff -f",
		args: ["--gdb", `${port}`, "--gdb-wait", "--control", "/run/gdb.control"],
	});
	const unpublish = await publishPorts(
		linux.lab,
		[{ hostAddress: "127.0.0.1", hostPort: port, guestPort: port, protocol: "tcp" }],
		[],
	);
	try {
		/* It is there after the port. */
		const isUp = async () => await linux.sh("ls /run/gdb.control || true");
		await expect.poll(isUp, { timeout: 120_000, interval: 500 }).toContain("gdb.control");
		const remote = `target remote 127.0.0.1:${port}`;
		const first = await gdb(
			symbols,
			remote,
			"print/x $cr0 & 0x80000000",
			"print $pc",
			"stepi",
			"print $pc",
			"break start_kernel",
			"continue",
			"delete",
			"detach",
		);
		const [, paging, entry, next] = /\$1 = (\S+)\n\$2 = .*?(0x\S+)[\s\S]*\$3 = .*?(0x\S+)/.exec(first) ?? [];
		expect(paging).toBe("0x0");
		expect(next).not.toBe(entry);
		expect(first).toContain("Cannot insert breakpoint 1");
		await guest.shows("ready");

		/* It reads: both processors are idle, most of the time. */
		const later = await gdb(
			symbols,
			remote,
			"print/x $cr0 & 0x80000000",
			"info threads",
			"thread apply all backtrace",
			"monitor walk ffffffff81000000",
			"print *(char **)&saved_command_line",
			"stepi",
			"print/x $cs",
			"detach",
		);
		expect(later).toContain("$1 = 0x80000000");
		expect(later).toMatch(/1\s+Thread 1 .*\n.*2\s+Thread 2/);
		expect(later).toMatch(/#\d+ .*cpu_startup_entry .*\n/);
		expect(later).toMatch(/paging: 4-level\nPML4 \[511\][\s\S]*gpa 000001000000/);
		expect(later).toMatch(/\$2 = 0x[0-9a-f]+ "[^"]*quiet/);
		expect(later).toContain("$3 = 0x10");

		await linux.sh(`${process.execPath} ${join(process.cwd(), "dist/tsvmm.js")} dump /run/gdb.control core`);
		const dumped = await gdb(
			symbols,
			`core-file ${join(linux.directory, "core")}`,
			"info threads",
			"thread apply all bt 3",
			"print *(char **)&saved_command_line",
			"x/s &linux_banner",
		);
		expect(dumped).toMatch(/1\s+LWP 1 .*\n.*2\s+LWP 2 /);
		expect(dumped).toMatch(/#0 .*(idle|halt)/);
		expect(dumped).toMatch(/quiet/);
		expect(dumped).toContain("Linux version 6.1");
		guest.type("goodbye\n");
		const { status, output } = await guest.ended();
		expect({ status, output }).toMatchObject({ status: 0, output: expect.stringContaining("goodbye") });
	} finally {
		unpublish();
	}
});

test("gdb breaks at start_kernel, and in a function that it calls", async () => {
	const { vmlinux } = await testKernel("minimal");
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-gdb-"));
	const socket = join(directory, "gdb");
	const flags = ["--quiet", "--console", "none", "--gdb", socket, "--gdb-wait"];
	const machine = spawn(process.execPath, ["dist/tsvmm.js", "boot", "--kernel", vmlinux, ...flags], {
		env: { ...process.env, TSVMM_HOST: "direct" },
		stdio: ["ignore", "ignore", "inherit"],
	});
	const ended = once(machine, "exit");
	try {
		await expect.poll(() => existsSync(socket), { timeout: 60_000 }).toBe(true);
		const output = await gdb(
			`${vmlinux}.debug`,
			`target remote ${socket}`,
			"break start_kernel",
			"continue",
			"backtrace",
			"hbreak setup_arch",
			"continue",
			"backtrace",
			"delete",
			"finish",
			"kill",
		);
		expect(output).toMatch(/Breakpoint 1, start_kernel \(\) at init\/main\.c:\d+\n/);
		expect(output).toMatch(/#0 +start_kernel \(\) .*\n#1 .* in secondary_startup_64 \(\)/);
		expect(output).toMatch(/Breakpoint 2, setup_arch \(/);
		expect(output).toMatch(/#0 +setup_arch .*\n#1 +0x[0-9a-f]+ in start_kernel \(\)/);
		expect(output).toMatch(/in start_kernel \(\)[\s\S]*\nstart_kernel \(\) at/);
		await ended;
	} finally {
		machine.kill("SIGKILL");
		await ended;
		rmSync(directory, { recursive: true });
	}
});

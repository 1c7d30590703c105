/*
 * The lab as its users see it: up, exec, down. When it is killed, it leaves nothing behind. Each run has a runtime
 * directory of its own, and uses the template in the user's cache.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Session } from "../../src/agent/session.ts";
import { packageRoot } from "../../src/host/native.ts";
import { needsLab } from "../../src/lab/host.ts";
import { Lab } from "../../src/lab/lab.ts";
import { LabPaths } from "../../src/lab/paths.ts";

const MINUTE = 60_000;
const KVM_CREATE_VM = 0xae01;
let directory: string;
let lab: Lab;

/** Runs the command line as a user does. */
function tsvmm(args: readonly string[], stdio: "pipe" | "inherit" = "pipe"): ChildProcess {
	return spawn(process.execPath, ["--import", "tsx", join(packageRoot(), "src/main.ts"), ...args], {
		cwd: packageRoot(),
		stdio: [stdio, "pipe", "pipe"],
	});
}

async function text(stream: AsyncIterable<Buffer | string>): Promise<string> {
	let all = "";
	for await (const chunk of stream) all += chunk;
	return all;
}

async function result(child: ChildProcess): Promise<{ status: number | null; stdout: string; stderr: string }> {
	const closed = once(child, "close");
	const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
	await closed;
	return { status: child.exitCode, stdout, stderr };
}

/** Processes of this host whose command line mentions our runtime directory. */
function processes(): string[] {
	return execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })
		.split("\n")
		.filter((line) => line.includes(directory));
}

async function gone(pid: number): Promise<void> {
	for (let i = 0; i < 200 && existsSync(`/proc/${pid}`); i++) await sleep(20);
	expect(existsSync(`/proc/${pid}`), `process ${pid} ends`).toBe(false);
}

async function output(session: Session, until: string): Promise<string> {
	let all = "";
	for await (const chunk of session.stdout) {
		all += chunk;
		if (all.includes(until)) break;
	}
	return all;
}

beforeAll(async () => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-lab-"));
	process.env.TSVMM_RUNTIME = directory;
	lab = await Lab.up();
}, 10 * MINUTE);

afterAll(async () => {
	lab?.close();
	await Lab.down();
	delete process.env.TSVMM_RUNTIME;
	rmSync(directory, { recursive: true, force: true });
}, MINUTE);

describe("Lab.exec", () => {
	it("exec passes output, error output and exit status", async () => {
		const { status, stdout, stderr } = await lab.exec(["sh", "-c", "echo out; echo err >&2; exit 42"]);
		expect([status, String(stdout), String(stderr)]).toEqual([42, "out\n", "err\n"]);
	});

	it("exec runs in the caller's directory, with its environment and what is added", async () => {
		const { stdout } = await lab.exec(["sh", "-c", 'pwd; echo "$HOME $ADDED"'], {
			env: { ADDED: "a b" },
			cwd: tmpdir(),
		});
		expect(String(stdout)).toBe(`${tmpdir()}\n${process.env.HOME} a b\n`);
	});

	it(
		"exec passes 10 MiB through standard input and output unchanged",
		async () => {
			const input = randomBytes(10 * 2 ** 20);
			const { stdout } = await lab.exec(["cat"], { input });
			const hash = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");
			expect(hash(stdout)).toBe(hash(input));
		},
		MINUTE,
	);

	it("exec reports a program that is missing as 127 and one that is no program as 126", async () => {
		await expect(lab.exec(["no-such-program"])).rejects.toMatchObject({ exitStatus: 127 });
		await expect(lab.exec([join(packageRoot(), "package.json")])).rejects.toMatchObject({ exitStatus: 126 });
	});

	it("exec kills a program that takes too long", async () => {
		const slow = lab.exec(["sleep", "60"], { timeoutMs: 300 });
		await expect(slow).rejects.toMatchObject({ code: "ERR_LAB_TIMEOUT" });
		const { stdout } = await lab.exec(["sh", "-c", "sleep 0.2; pgrep -fx 'sleep 60' || echo none"]);
		expect(String(stdout)).toBe("none\n");
	});

	it(
		"exec runs many programs at once",
		async () => {
			const all = await Promise.all(
				Array.from({ length: 16 }, (_, i) =>
					lab.exec(["sh", "-c", "sleep 0.3; cat; exit $1", "sh", `${i}`], { input: `${i}` }),
				),
			);
			expect(all.map(({ status }) => status)).toEqual(all.map((_, i) => i));
			expect(all.map(({ stdout }) => String(stdout))).toEqual(all.map((_, i) => `${i}`));
		},
		MINUTE,
	);

	it("exec runs node and creates a virtual machine on /dev/kvm", async () => {
		const { stdout } = await lab.exec([process.execPath, "-p", "1 + 1"]);
		expect(String(stdout)).toBe("2\n");
		const create = `
			import fcntl, time
			kvm = open("/dev/kvm", "r+b", 0)
			start = time.time()
			fcntl.ioctl(kvm, ${KVM_CREATE_VM}, 0)
			print(int((time.time() - start) * 1000))`;
		const created = await lab.exec(["python3", "-c", create.replaceAll("\n\t\t\t", "\n").trim()]);
		expect(String(created.stderr)).toBe("");
		expect(String(created.stdout)).toMatch(/^\d+\n$/);
		console.log(`KVM_CREATE_VM in the lab: ${String(created.stdout).trim()} ms`);
	});
});

describe("Lab.spawn", () => {
	it("spawn delivers signals", async () => {
		const session = await lab.spawn([
			"sh",
			"-c",
			"trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.1; done",
		]);
		expect(await output(session, "ready")).toBe("ready\n");
		session.signal(15);
		expect(await session.exit).toEqual({ code: 7 });
	});

	it("spawn gives a terminal that can be resized", async () => {
		const session = await lab.spawn(["sh", "-c", "tty; stty size; read x; stty size"], {
			tty: { columns: 100, rows: 30 },
		});
		let all = "";
		session.stdout.on("data", (chunk: Buffer) => {
			all += chunk;
		});
		while (!all.includes("30 100")) await sleep(10);
		session.resize(132, 43);
		session.stdin.write("\n");
		expect(await session.exit).toEqual({ code: 0 });
		expect(all).toMatch(/^\/dev\/pts\/\d+\r\n30 100\r\n/);
		expect(all).toContain("43 132");
	});

	it("a program ends when the connection that started it does", async () => {
		const other = (await Lab.connect())!;
		await other.spawn(["sleep", "61"]);
		other.close();
		await sleep(1000);
		const { stdout } = await lab.exec(["sh", "-c", "pgrep -fx 'sleep 61' || echo none"]);
		expect(String(stdout)).toBe("none\n");
	});
});

describe("the lab's files", () => {
	it("a file written in the lab is on the host, and the other way round, at once", async () => {
		const path = join(directory, "file");
		await lab.exec(["sh", "-c", `echo one >${path}`]);
		expect(readFileSync(path, "utf8")).toBe("one\n");
		for (const words of ["two", "three is longer"]) {
			writeFileSync(path, words);
			expect(String((await lab.exec(["cat", path])).stdout)).toBe(words);
		}
		rmSync(path);
		expect((await lab.exec(["test", "-e", path])).status).toBe(1);
	});

	it("the system's directories are read-only, /run and /dev/shm are the lab's own", async () => {
		expect((await lab.exec(["touch", "/usr/bin/tsvmm-was-here"])).status).not.toBe(0);
		expect((await lab.exec(["sh", "-c", "touch /run/tsvmm/x /dev/shm/tsvmm-was-here"])).status).toBe(0);
		expect(existsSync("/dev/shm/tsvmm-was-here")).toBe(false);
	});

	it("the lab has its own clock right and a network behind the host's", async () => {
		const { stdout } = await lab.exec(["date", "+%s"]);
		expect(Math.abs(Number(stdout) - Date.now() / 1000)).toBeLessThan(5);
		const { stdout: address } = await lab.exec(["ip", "-4", "addr", "show", "eth0"]);
		expect(String(address)).toContain("10.0.2.15/24");
	});
});

describe("tsvmm lab", () => {
	it(
		"exec passes standard input, output and the exit status",
		async () => {
			const child = tsvmm([
				"lab",
				"exec",
				"-i",
				"-e",
				"NAME=lab",
				"--",
				"sh",
				"-c",
				"cat; echo $NAME; echo error >&2; exit 3",
			]);
			child.stdin!.end("input\n");
			expect(await result(child)).toEqual({ status: 3, stdout: "input\nlab\n", stderr: "error\n" });
		},
		MINUTE,
	);

	it(
		"exec forwards SIGTERM and SIGINT, and exits as a shell does",
		async () => {
			for (const [signal, status] of [
				["SIGTERM", 143],
				["SIGINT", 130],
			] as const) {
				const child = tsvmm(["lab", "exec", "--", "sh", "-c", "echo ready; exec sleep 62"]);
				const ended = result(child);
				await once(child.stdout!, "data");
				child.kill(signal);
				expect((await ended).status).toBe(status);
			}
		},
		MINUTE,
	);

	it(
		"exec -t gives the program our terminal, its keys and its size",
		async () => {
			const own = `${process.execPath} --import tsx ${join(packageRoot(), "src/main.ts")}`;
			const inside = 'stty size; read x; echo "got $x"; read y; stty size; read z';
			const command = `stty cols 111 rows 33; tty; exec ${own} lab exec -i -t -- sh -c '${inside}'`;
			const child = spawn("script", ["-qefc", command, "/dev/null"], { cwd: packageRoot(), stdio: "pipe" });
			const ended = once(child, "close");
			let seen = "";
			child.stdout.on("data", (chunk: Buffer) => {
				seen += chunk;
			});
			const sees = async (pattern: RegExp) => {
				await vi.waitFor(() => expect(seen).toMatch(pattern), { timeout: 20_000 });
				return pattern.exec(seen)!;
			};
			const [, terminal] = await sees(/(\/dev\/pts\/\d+)\r\n/);
			await sees(/33 111\r\n/);
			child.stdin.write("hello\r");
			await sees(/got hello\r\n/);
			execFileSync("stty", ["-F", terminal!, "cols", "144", "rows", "44"]);
			await sleep(500);
			child.stdin.write("\r");
			await sees(/44 144\r\n/);
			child.stdin.write("\x03");
			await ended;
			expect(child.exitCode).toBe(130);
		},
		MINUTE,
	);

	it(
		"exec ends the program when nobody reads its output any more",
		async () => {
			const child = tsvmm(["lab", "exec", "--", "yes"]);
			const closed = once(child, "exit");
			await once(child.stdout!, "data");
			child.stdout!.destroy();
			await closed;
			expect(child.exitCode).toBe(141);
		},
		MINUTE,
	);

	it(
		"exec says that a program is missing and exits with 127",
		async () => {
			const { status, stderr } = await result(tsvmm(["lab", "exec", "--", "no-such-program"]));
			expect(status).toBe(127);
			expect(stderr).toContain("no-such-program");
		},
		MINUTE,
	);

	it(
		"status --json tells what the supervisor is and how fast it restored",
		async () => {
			const { stdout } = await result(tsvmm(["lab", "status", "--json"]));
			const status = JSON.parse(stdout);
			expect(status).toMatchObject({ name: "default", state: "ready", record: { memoryMiB: 3072, cpus: 1 } });
			console.log(`lab restored in ${status.record.restoreMs} ms`);
		},
		MINUTE,
	);
});

describe("needsLab", () => {
	it("needsLab follows TSVMM_HOST, and is false in the lab", async () => {
		const answers = ["direct", "lab"].map((choice) => {
			vi.stubEnv("TSVMM_HOST", choice);
			return needsLab();
		});
		expect(answers).toEqual([false, true]);
		vi.stubEnv("TSVMM_HOST", "cloud");
		expect(() => needsLab()).toThrow(/Cannot use TSVMM_HOST=cloud/);
		vi.unstubAllEnvs();
		const { stdout } = await lab.exec([
			"sh",
			"-c",
			"echo $TSVMM_HOST $TSVMM_LAB $TSVMM_RUNTIME; grep -cw svm /proc/cpuinfo",
		]);
		expect(String(stdout)).toBe("direct 1 /run/tsvmm\n1\n");
	});
});

describe("the supervisor", () => {
	it(
		"several ups at once make one lab; down leaves no process and no file",
		async () => {
			const labs = await Promise.all(Array.from({ length: 4 }, () => Lab.up({ name: "other" })));
			const { record } = await Lab.status("other");
			for (const each of labs) expect((await each.exec(["true"])).status).toBe(0);
			const lockOfQemu = statSync(`/proc/${record!.qemuPid}/fd/5`);
			expect(lockOfQemu.ino).toBe(statSync(new LabPaths("other").lock).ino);
			for (const each of labs) each.close();
			expect(await Lab.down("other")).toBe(true);
			expect(await Lab.down("other")).toBe(false);
			await gone(record!.pid);
			await gone(record!.qemuPid!);
			expect(readdirSync(join(directory, "lab"))).toEqual(["default"]);
			expect(processes().filter((line) => line.includes("/lab/other/"))).toEqual([]);
		},
		MINUTE,
	);

	it.each(["supervisor", "QEMU"])(
		"after SIGKILL to the %s the lab is down and can come up again",
		async (victim) => {
			const first = await Lab.up({ name: "victim" });
			const { record } = await Lab.status("victim");
			const session = await first.spawn(["sleep", "63"]);
			process.kill(victim === "supervisor" ? record!.pid : record!.qemuPid!, "SIGKILL");
			await expect(session.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
			await gone(record!.pid);
			await gone(record!.qemuPid!);
			expect(await Lab.status("victim")).toEqual({ name: "victim", state: "down" });
			expect(existsSync(new LabPaths("victim").directory)).toBe(false);
			const second = await Lab.up({ name: "victim" });
			expect((await second.exec(["true"])).status).toBe(0);
			await second.down();
		},
		MINUTE,
	);

	it(
		"up fails with the error that the supervisor met",
		async () => {
			const path = process.env.TSVMM_CACHE;
			process.env.TSVMM_CACHE = "/etc/passwd/tsvmm";
			try {
				await expect(Lab.up({ name: "broken" })).rejects.toMatchObject({ code: "ERR_DIRECTORY" });
			} finally {
				if (path === undefined) delete process.env.TSVMM_CACHE;
				else process.env.TSVMM_CACHE = path;
			}
			expect(existsSync(new LabPaths("broken").directory)).toBe(false);
		},
		MINUTE,
	);

	it("a lab's name cannot lead out of its directory", () => {
		expect(() => new LabPaths("../x")).toThrow(/Cannot name a lab/);
	});
});

/*
 * `tsvmm snapshot` and `tsvmm boot --control` with a kernel of a few instructions, as real command lines. Needs /dev/kvm.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { answerRequests } from "../../src/host/request-socket.ts";
import { outb, POWER_OFF, SPIN, TinyKernels } from "../guest/tiny-kernel.ts";
import { bundle, program } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

/** Waits until the serial port has a byte: mov dx, 0x3fd; in al, dx; test al, 1; jz back. Prints it: mov dx, 0x3f8; in; out. */
const ECHO = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee];
const kernels = new TinyKernels();
const echo = kernels.write("ready", [...outb(0x3f9, 1), ...ECHO, ...POWER_OFF]);
const spin = kernels.write("", SPIN);
beforeAll(bundle, 60_000);
afterAll(() => kernels.remove());

let cwd: string;
let cache: string;
const children = new Set<ChildProcess>();
beforeEach(() => {
	cwd = mkdtempSync(join(tmpdir(), "tsvmm-snapshot-"));
	cache = mkdtempSync(join(tmpdir(), "tsvmm-cache-"));
});
afterEach(async () => {
	for (const child of children) {
		if (child.exitCode !== null || child.signalCode !== null) continue;
		child.kill("SIGKILL");
		await once(child, "exit");
	}
	children.clear();
	for (const directory of [cwd, cache]) rmSync(directory, { recursive: true });
});

interface Running {
	readonly child: ChildProcess;
	readonly stdout: () => string;
	readonly ended: Promise<{ status: number | null; stdout: string; stderr: string }>;
}

function tsvmm(...args: string[]): Running {
	const env = { ...process.env, TSVMM_HOST: "direct", TSVMM_CACHE: cache };
	const child = spawn(process.execPath, ["--", program, ...args], { cwd, env, stdio: ["pipe", "pipe", "pipe"] });
	children.add(child);
	let [stdout, stderr] = ["", ""];
	child.stdout.on("data", (chunk) => {
		stdout += chunk;
	});
	child.stderr.on("data", (chunk) => {
		stderr += chunk;
	});
	const ended = once(child, "close").then(([status]) => ({ status: status as number | null, stdout, stderr }));
	return { child, stdout: () => stdout, ended };
}
const boot = (kernel: string, ...args: string[]) =>
	tsvmm("boot", "--kernel", kernel, "--memory", "64M", "--control", "vm.sock", "--rng", ...args);
const snapshot = (...args: string[]) => tsvmm("snapshot", ...args).ended;
const isThere = (name: string) => expect.poll(() => existsSync(join(cwd, name))).toBe(true);
const good = { status: 0, stdout: "", stderr: "" };

describe("tsvmm snapshot", () => {
	test("create takes a machine to files and restore lets it go on", async () => {
		const machine = boot(echo);
		await expect.poll(machine.stdout).toBe("ready");
		expect(await snapshot("create", "vm.sock", "first", "--stop")).toEqual(good);
		expect(await machine.ended).toEqual({ status: 0, stdout: "ready", stderr: "tsvmm: machine stopped\n" });
		for (const byte of ["x", "y"]) {
			const restored = tsvmm("snapshot", "restore", "first", "--rng");
			restored.child.stdin!.end(byte);
			expect(await restored.ended).toEqual({ status: 0, stdout: byte, stderr: "tsvmm: guest powered off\n" });
		}
		expect((await snapshot("restore", "first", "--name", "x")).stderr).toContain("no container [ERR_USAGE]");
		expect(readdirSync(cwd)).toEqual(["first"]);
		const other = await snapshot("restore", "first");
		expect(other).toMatchObject({ status: 125, stdout: "" });
		expect(other.stderr).toContain("the state is of rng in slot 0, the machine has none [ERR_STATE_MISMATCH]");
	});

	test("create, ls, inspect, merge and rm know bases", async () => {
		const machine = boot(spin);
		await isThere("vm.sock");
		expect(await snapshot("create", "vm.sock", "one")).toEqual(good);
		expect(await snapshot("create", "vm.sock", "two", "--base", "one")).toEqual(good);
		expect(await snapshot("create", "vm.sock", "three", "--base=two", "--stop")).toEqual(good);
		expect((await machine.ended).status).toBe(0);
		const rows = "{{.Name}} {{.Cpus}} {{.Memory}} [{{.Base}}] {{.Kernel}}";
		expect((await snapshot("ls", "--format", rows)).stdout.split("\n")).toEqual([
			`one 1 64MiB [] ${spin}`,
			`two 1 64MiB [one] ${spin}`,
			`three 1 64MiB [two] ${spin}`,
			"",
		]);
		expect((await snapshot("ls", cwd)).stdout).toMatch(
			/^NAME +CREATED +CPUS +MEMORY +SIZE +CONTAINER +BASE\none +(?:.* ago|just now) +1 +64MiB/,
		);
		const [about] = JSON.parse((await snapshot("inspect", "three")).stdout);
		expect(about).toMatchObject({
			path: join(cwd, "three"),
			bases: [join(cwd, "two"), join(cwd, "one")],
			machine: { cpus: 1, memoryMiB: 64, devices: [{ id: "rng" }] },
		});
		expect((await snapshot("inspect", "-f", "{{.format}}", "one")).stdout).toBe("2\n");
		expect(about.workingSet).toBeUndefined();
		const advice = { version: 1, snapshot: about.id, pages: [4, 6, 30, 31] };
		writeFileSync(join(cwd, "three", "working-set"), JSON.stringify(advice));
		const [advised] = JSON.parse((await snapshot("inspect", "three")).stdout);
		expect(advised.workingSet).toEqual({ pages: 3, bytes: 12288 });

		const used = await snapshot("rm", "one");
		expect(used.stderr).toContain("Cannot remove the snapshot one: two is based on it [ERR_SNAPSHOT_USED]");
		expect(await snapshot("merge", "three", "whole")).toEqual(good);
		expect(await snapshot("rm", "one", "two", "three")).toEqual(good);
		expect(readdirSync(cwd)).toEqual(["whole"]);
		const restored = tsvmm("snapshot", "restore", "whole", "--rng", "--control", "vm.sock");
		await isThere("vm.sock");
		expect(await snapshot("create", "vm.sock", "again", "--base", "whole")).toEqual(good);
		restored.child.kill("SIGTERM");
		expect((await restored.ended).status).toBe(0);
		expect(await snapshot("rm", "-f", "whole")).toEqual(good);
		const lost = await snapshot("restore", "again", "--rng");
		expect(lost.stderr).toMatch(/its base .*whole cannot be read: .*ERR_SNAPSHOT_BASE/);
	});

	test("tells what is wrong", async () => {
		writeFileSync(join(cwd, "file"), "");
		mkdirSync(join(cwd, "empty"));
		const machine = boot(spin);
		await isThere("vm.sock");
		const second = await boot(spin).ended;
		expect(second).toMatchObject({ status: 125, stdout: "" });
		expect(second.stderr).toContain("another process listens there [ERR_SOCKET_IN_USE]");
		const wrong: [string[], string][] = [
			[["create", "vm.sock", "file"], "something is there already [ERR_SNAPSHOT_EXISTS]"],
			[["create", "vm.sock", "none/there"], "[ERR_SNAPSHOT_WRITE]"],
			[["create", "vm.sock", "there", "--base", "empty"], "[ERR_SNAPSHOT_MISSING]"],
			[["create", "./none.sock", "there"], "[ERR_MACHINE_MISSING]"],
			[["create", "nobody", "there"], "[ERR_CONTAINER_NOT_FOUND]"],
			[["create", "./file", "there", "--stop"], "[ERR_MACHINE_MISSING]"],
			[["restore", "empty"], "[ERR_SNAPSHOT_MISSING]"],
			[["ls", "none"], "[ERR_SNAPSHOT_MISSING]"],
			[["inspect", "empty"], "[ERR_SNAPSHOT_MISSING]"],
			[["merge", "empty", "there"], "[ERR_SNAPSHOT_MISSING]"],
			[["rm", "empty", "none"], "[ERR_SNAPSHOT_MISSING]"],
			[["rm", "none"], "[ERR_SNAPSHOT_MISSING]"],
		];
		for (const [args, message] of wrong) {
			const { status, stderr } = await snapshot(...args);
			expect([args, status, stderr]).toEqual([args, 125, expect.stringContaining(message)]);
		}
		/* It has run on all the time, and ends with clients that have not asked anything. */
		expect(machine.child.exitCode).toBe(null);
		const silent = connect(join(cwd, "vm.sock"));
		await once(silent, "connect");
		machine.child.kill("SIGTERM");
		expect((await machine.ended).status).toBe(0);
		silent.destroy();
		expect(readdirSync(cwd).sort()).toEqual(["empty", "file"]);
	});

	test.each([
		["SIGINT", 130],
		["SIGTERM", 143],
	] as const)("create gives the snapshot up at %s", async (signal, status) => {
		const asked: unknown[] = [];
		let giveUp: ((answer: unknown) => void) | undefined;
		const close = await answerRequests(join(cwd, "vm.sock"), (request) => {
			asked.push(request);
			if ((request as { do: string }).do === "snapshot") return new Promise((resolve) => (giveUp = resolve));
			giveUp?.({ failure: { code: "ERR_SNAPSHOT_WRITE", message: "it was given up" } });
			return Promise.resolve({});
		});
		const taking = tsvmm("snapshot", "create", "vm.sock", "there", "--base", "here");
		await expect.poll(() => asked.length).toBe(1);
		taking.child.kill(signal);
		const { status: ended, stderr } = await taking.ended;
		expect([ended, stderr]).toEqual([
			status,
			`tsvmm: error: Cannot take a snapshot: interrupted by ${signal} [ERR_INTERRUPTED]\n`,
		]);
		const path = join(cwd, "there");
		expect(asked).toEqual([
			{ do: "snapshot", path, base: join(cwd, "here"), stop: false },
			{ do: "cancel", path },
		]);
		await close();
	});

	test("rm leaves a directory with files of others", async () => {
		const machine = boot(spin);
		await isThere("vm.sock");
		await snapshot("create", "vm.sock", "one", "--stop");
		await machine.ended;
		writeFileSync(join(cwd, "one", "notes"), "");
		expect((await snapshot("rm", "one")).stderr).toContain("[ERR_SNAPSHOT_REMOVE]");
		expect(readdirSync(join(cwd, "one"))).toEqual(["notes"]);
	});
});

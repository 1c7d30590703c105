/*
 * A container's whole life as a user of Docker types it, each command a process of its own. Where this machine has no
 * KVM the commands run in the lab, one lab for all.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

/* Each command starts Node in an emulated machine. */
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-life-"));
const env = { ...process.env, TSVMM_RUNTIME: join(directory, "run"), TSVMM_STATE: join(directory, "state") };
let image: string;

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	image = await ensureDemoImage("busybox");
});
afterAll(() => {
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

/** Runs one command line to its end. */
function tsvmm(args: readonly string[], input = "") {
	const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { env, input, encoding: "utf8" });
	return { status, stdout, stderr };
}

/** As tsvmm, for a command that must succeed. */
function must(...args: string[]): string {
	const { status, stdout, stderr } = tsvmm(args);
	expect(stderr).toBe("");
	expect(status).toBe(0);
	return stdout;
}

test("run -d, ps, logs, exec, stop, start again with what it wrote, rm", () => {
	const script =
		"echo started; echo problem >&2; echo x >>/kept; wc -l </kept; trap 'exit 5' TERM; while :; do sleep 0.1; done";
	const id = must(
		"run",
		"-q",
		"-d",
		"--name",
		"one",
		"-e",
		"COLOUR=green",
		"-l",
		"tier=web",
		image,
		"sh",
		"-c",
		script,
	).trim();
	expect(id).toMatch(/^[0-9a-f]{64}$/);
	expect(must("ps", "--format", '{{.ID}} {{.Names}} {{.State}} {{.Label "tier"}}')).toBe(
		`${id.slice(0, 12)} one running web\n`,
	);
	const executed = tsvmm(
		["exec", "-i", "-w", "/tmp", "one", "sh", "-c", "cat; pwd; echo $COLOUR; cat /proc/1/comm; exit 7"],
		"in\n",
	);
	expect(executed).toEqual({ status: 7, stdout: "in\n/tmp\ngreen\nsh\n", stderr: "" });
	const logs = tsvmm(["logs", "one"]);
	expect(logs).toEqual({ status: 0, stdout: "started\n1\n", stderr: "problem\n" });
	expect(must("stop", "one")).toBe("one\n");
	expect(must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one")).toBe("exited 5\n");
	expect(must("wait", "one")).toBe("5\n");
	expect(must("start", "one")).toBe("one\n");
	expect(must("logs", "--tail", "1", "one")).toBe("2\n");
	expect(tsvmm(["rm", "one"])).toMatchObject({ status: 125, stderr: expect.stringContaining("ERR_CONTAINER_RUNNING") });
	expect(must("rm", "-f", "one")).toBe("one\n");
	expect(must("ps", "-aq")).toBe("");
});

test("pause and unpause, kill by a signal, exit statuses of missing commands", () => {
	must("run", "-q", "-d", "--name", "two", "--init", image, "sleep", "1000");
	must("pause", "two");
	expect(must("ps", "--format", "{{.Status}}")).toMatch(/\(Paused\)\n$/);
	expect(tsvmm(["exec", "two", "true"])).toMatchObject({
		status: 125,
		stderr: expect.stringContaining("it is paused"),
	});
	must("unpause", "two");
	expect(tsvmm(["exec", "two", "nowhere"]).status).toBe(127);
	must("kill", "-s", "TERM", "two");
	expect(must("wait", "two")).toBe("143\n");
	expect(tsvmm(["run", "-q", "--rm", image, "nowhere"]).status).toBe(127);
	expect(must("container", "prune", "-f")).toMatch(/^Deleted Containers:\n[0-9a-f]{64}\n$/);
	expect(must("ps", "-aq")).toBe("");
});

test("a container whose supervisor was killed has exited with 137, and starts again", () => {
	must("run", "-q", "-d", "--name", "three", image, "sh", "-c", "echo run >>/runs; wc -l </runs; exec sleep 1000");
	const pid = must("inspect", "-f", "{{.State.Pid}}", "three").trim();
	/* The process is the lab's where there is one. */
	const kill = ["sh", "-c", `kill -9 ${pid}`];
	const status = tsvmm(["lab", "status"]).stdout;
	if (status.includes("ready")) must("lab", "exec", "-q", "--", ...kill);
	else execFileSync(kill[0]!, kill.slice(1));
	expect(must("ps", "-a", "--format", "{{.Status}}")).toMatch(/^Exited \(137\)/);
	expect(must("start", "three")).toBe("three\n");
	expect(must("logs", "--tail", "1", "three")).toMatch(/^[12]\n$/);
	must("rm", "-f", "three");
});

test("start -a shows the output and gives the exit status; create makes a container only", () => {
	must("create", "-q", "--name", "four", image, "sh", "-c", "echo hello; exit 3");
	expect(must("ps", "-a", "--format", "{{.Status}}")).toBe("Created\n");
	expect(tsvmm(["start", "-a", "four"])).toEqual({ status: 3, stdout: "hello\n", stderr: "" });
	must("rm", "four");
});

test("attach follows a container to its end, with its status", async () => {
	must("run", "-q", "-d", "-i", "--name", "five", image, "sh", "-c", "read line; echo got $line; exit 4");
	const child = spawn(process.execPath, [program, "attach", "five"], { env, stdio: ["pipe", "pipe", "inherit"] });
	let output = "";
	child.stdout.setEncoding("utf8").on("data", (text) => {
		output += text;
	});
	child.stdin.end("a line\n");
	expect(await new Promise((resolve) => child.once("close", resolve))).toBe(4);
	expect(output).toBe("got a line\n");
	must("rm", "five");
});

test("directories and files of the host and volumes are in a container, and what it writes there stays", () => {
	mkdirSync(join(directory, "shared/sub"), { recursive: true });
	writeFileSync(join(directory, "shared/file"), "from the host\n");
	writeFileSync(join(directory, "single"), "alone\n");
	const script = "cat /data/file /etc/single; echo new >/data/sub/made; echo kept >/vol/y; touch /ro/x || echo refused";
	const mounts = [
		...["-v", `${join(directory, "shared")}:/data`, "-v", `${join(directory, "single")}:/etc/single:ro`],
		...["-v", "things:/vol", "--mount", `type=bind,src=${join(directory, "shared")},dst=/ro,readonly`],
	];
	const first = tsvmm(["run", "-q", "--rm", ...mounts, image, "sh", "-c", script]);
	expect(first.stdout).toBe("from the host\nalone\nrefused\n");
	expect(readFileSync(join(directory, "shared/sub/made"), "utf8")).toBe("new\n");
	expect(must("run", "-q", "--rm", "-v", "things:/vol:ro", image, "cat", "/vol/y")).toBe("kept\n");
	expect(must("volume", "ls", "-q")).toBe("things\n");
	expect(must("volume", "rm", "things")).toBe("things\n");
});

/*
 * A pod as a user types it: containers of two images in one machine. Where this machine has no KVM the commands run in
 * the lab, one lab for all.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

/* Each command starts Node in an emulated machine. */
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-pods-"));
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
function tsvmm(...args: string[]) {
	const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { env, encoding: "utf8" });
	return { status, stdout, stderr };
}

/** As tsvmm, for a command that must succeed. */
function must(...args: string[]): string {
	const { status, stdout, stderr } = tsvmm(...args);
	expect(stderr).toBe("");
	expect(status).toBe(0);
	return stdout;
}

test("two containers share localhost, and have roots, processes, names and ends of their own", () => {
	const id = must("pod", "create", "--network", "none", "web").trim();
	expect(id).toMatch(/^[0-9a-f]{64}$/);
	expect(must("pod", "ps", "--format", "{{.Name}} {{.Status}}")).toBe("web Created\n");
	const server = "echo from the server >/page; exec httpd -f -p 8000 -h /";
	must("run", "-q", "-d", "--pod", "web", "--name", "server", "-h", "server", image, "sh", "-c", server);
	const client = "hostname; cat /proc/1/comm; ls /page; wget -qO- http://127.0.0.1:8000/page";
	const ran = tsvmm("run", "-q", "--pod", "web", "--name", "client", "-h", "client", image, "sh", "-c", client);
	expect(ran).toMatchObject({ status: 0, stdout: "client\nsh\nfrom the server\n" });
	expect(must("exec", "server", "sh", "-c", "hostname; cat /proc/1/comm")).toBe("server\nhttpd\n");
	expect(must("diff", "server")).toBe("A /page\n");
	must("export", "-o", join(directory, "server.tar"), "server");
	const names = execFileSync("tar", ["-tf", join(directory, "server.tar")], { encoding: "utf8" });
	expect(names.match(/^\.\/(page|proc\/.*)$/gm)?.sort()).toEqual(["./page", "./proc/"]);
	expect(must("pod", "ps", "--format", "{{.Status}} {{.NumberOfContainers}}")).toBe("Degraded 2\n");
	expect(must("ps", "-a", "--pod", "--format", "{{.Names}} {{.State}} {{.PodName}}")).toBe(
		"client exited web\nserver running web\n",
	);
	must("pause", "server");
	expect(tsvmm("exec", "server", "true").stderr).toContain("it is paused");
	must("unpause", "server");
	expect(tsvmm("pod", "rm", "web")).toMatchObject({ status: 125, stderr: expect.stringContaining("ERR_POD_RUNNING") });
});

test("slots of the machine come back: more disks and directories than it has slots, one after another", () => {
	const mounts = ["a", "b", "c", "d", "e", "f"].flatMap((name) => {
		mkdirSync(join(directory, name));
		writeFileSync(join(directory, name, "file"), `${name}\n`);
		return ["-v", `${join(directory, name)}:/${name}`];
	});
	for (let i = 0; i < 3; i++) {
		const ran = tsvmm(
			"run",
			"-q",
			"--rm",
			"--pod",
			"web",
			...mounts,
			image,
			"sh",
			"-c",
			"cat /[a-f]/file | tr -d '\\n'",
		);
		expect(ran).toMatchObject({ status: 0, stdout: "abcdef" });
	}
	const many = Array.from({ length: 20 }, (_, i) => ["-v", `${join(directory, "a")}:/a${i}`]).flat();
	const refused = tsvmm("run", "-q", "--rm", "--pod", "web", ...many, image, "true");
	expect(refused).toMatchObject({ status: 125, stderr: expect.stringContaining("ERR_TOO_MANY_DEVICES") });
	expect(must("exec", "server", "cat", "/page")).toBe("from the server\n");
});

test("a pod's published ports lead to its containers, and its events and limits are told", () => {
	const [exposed, name] = ["8017:8017", "shop"];
	must("pod", "create", "-p", exposed, "-m", "384M", name);
	must("run", "-q", "-d", "--pod", name, "--name", "page", image, "sh", "-c", "echo sold >/p; httpd -f -p 8017 -h /");
	const fetch = ["busybox", "wget", "-qO-", "http://127.0.0.1:8017/p"];
	/* The port is the lab's where there is one. */
	const inLab = tsvmm("lab", "status").stdout.includes("ready");
	const fetched = inLab
		? must("lab", "exec", "-q", "--", ...fetch)
		: execFileSync(fetch[0]!, fetch.slice(1)).toString();
	expect(fetched).toBe("sold\n");
	expect(must("stats", "--no-stream", "--format", "{{.MemUsage}}", "page")).toMatch(/ \/ 384MiB\n$/);
	must("update", "-m", "128M", "--pids-limit", "40", "page");
	expect(must("exec", "page", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max")).toBe("134217728\n40\n");
	expect(must("stats", "--no-stream", "--format", "{{.MemUsage}}", "page")).toMatch(/ \/ 128MiB\n$/);
	expect(must("diff", "page")).toBe("A /p\n");
	must("commit", "page", "sold:v1");
	expect(must("run", "-q", "--rm", "--network", "none", "sold:v1", "cat", "/p")).toBe("sold\n");
	expect(must("diff", "page")).toBe("A /p\n");
	must("pod", "rm", "-f", name);
	must("rmi", "sold:v1");
	const told = must(
		"events",
		"--since",
		"1h",
		"--until",
		"0s",
		"--filter",
		`pod=${name}`,
		"--format",
		"{{.Type}} {{.Action}}",
	);
	expect(told.split("\n").filter((line) => line.startsWith("pod"))).toEqual([
		...["pod create", "pod start", "pod die", "pod remove"],
	]);
});

test("a container joins another one's machine by --network container:", () => {
	must("run", "-q", "-d", "--network", "none", "--name", "owner", image, "sh", "-c", "echo x >/y; httpd -f -p 81 -h /");
	const joined = ["run", "-q", "--rm", "--network", "container:owner", image];
	expect(must(...joined, "wget", "-qO-", "http://127.0.0.1:81/y")).toBe("x\n");
	must("rm", "-f", "owner");
});

test("a pod whose supervisor was killed has exited, and starts again; rm -f leaves nothing", () => {
	const pid = must("pod", "inspect", "-f", "{{.Pid}}", "web").trim();
	const kill = ["sh", "-c", `kill -9 ${pid}`];
	/* The process is the lab's where there is one. */
	if (tsvmm("lab", "status").stdout.includes("ready")) must("lab", "exec", "-q", "--", ...kill);
	else execFileSync(kill[0]!, kill.slice(1));
	expect(must("ps", "-a", "--filter", "name=server", "--format", "{{.Status}}")).toMatch(/^Exited \(137\)/);
	expect(must("pod", "ps", "--format", "{{.Status}}")).toBe("Exited\n");
	must("start", "server");
	expect(must("exec", "server", "cat", "/page")).toBe("from the server\n");
	must("pod", "rm", "-f", "web");
	expect(must("ps", "-aq") + must("pod", "ps", "-q")).toBe("");
	expect(readdirSync(join(directory, "state/pods")).filter((name) => name !== ".lock")).toEqual([]);
});

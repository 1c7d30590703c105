/*
 * A container's files and what it uses, under a real kernel: cp both ways while it runs and after its end, export, diff,
 * commit, update, top, stats, events.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-files-"));
const env = { ...process.env, TSVMM_RUNTIME: `${directory}/run`, TSVMM_STATE: `${directory}/state` };

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	mkdirSync(`${directory}/state`);
	const image = await ensureDemoImage("busybox");
	tsvmm("run", "-d", "-q", "--net", "none", "--name", "box", image, "sleep", "10000");
});
afterAll(() => {
	spawnSync(process.execPath, [program, "rm", "-f", "box"], { env });
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

const tsvmm = (...args: string[]) =>
	execFileSync(process.execPath, [program, ...args], { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

test("cp, export, top and stats of a container that runs", () => {
	mkdirSync(`${directory}/tree/sub`, { recursive: true });
	writeFileSync(`${directory}/tree/sub/file`, "from the host");
	tsvmm("cp", `${directory}/tree`, "box:/root");
	expect(tsvmm("exec", "box", "cat", "/root/tree/sub/file")).toBe("from the host");
	tsvmm("cp", "box:/root/tree/.", `${directory}/back`);
	expect(readFileSync(`${directory}/back/sub/file`, "utf8")).toBe("from the host");
	tsvmm("export", "-o", `${directory}/box.tar`, "box");
	const names = execFileSync("tar", ["-tf", `${directory}/box.tar`], { encoding: "utf8" }).split("\n");
	expect(names).toContain("./root/tree/sub/file");
	expect(names.filter((name) => /^\.\/(proc|sys|dev)\/./.test(name))).toEqual([]);
	const inside = execFileSync("tar", ["-t"], {
		input: execFileSync(process.execPath, [program, "cp", "box:/root/tree/.", "-"], { env }),
		encoding: "utf8",
	});
	expect(inside).toBe("./\n./sub/\n./sub/file\n");
	expect(tsvmm("top", "box")).toMatch(/^USER +PID .*COMMAND\n.* 1 .* sleep 10000\n$/);
	const used = tsvmm("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "box");
	expect(used).toMatch(/^box [1-9]\d* [\d.]+(KiB|MiB) \/ 512MiB\n$/);
});

test("commit makes an image of what a container has changed, and diff lists it", () => {
	tsvmm("exec", "box", "sh", "-c", "rm /etc/group; echo changed >/root/new; mkdir -m 700 /root/empty");
	expect(tsvmm("diff", "box").split("\n")).toEqual(expect.arrayContaining(["D /etc/group", "A /root/new", "C /etc"]));
	const id = tsvmm("commit", "-m", "why", "-c", "ENV KIND=committed", "box").trim();
	expect(id).toMatch(/^sha256:[0-9a-f]{64}$/);
	try {
		const script = "echo $KIND; cat /root/new /root/tree/sub/file; ls /etc/group 2>&1; stat -c %a /root/empty";
		const output = tsvmm("run", "-q", "--rm", "--net", "none", id.slice(7, 19), "sh", "-c", script);
		expect(output).toBe("committed\nchanged\nfrom the hostls: /etc/group: No such file or directory\n700\n");
		expect(tsvmm("history", "--format", "{{.Comment}}", id).split("\n")[0]).toBe("why");
	} finally {
		tsvmm("rmi", id);
	}
	tsvmm("update", "--pids-limit", "3", "box");
	expect(tsvmm("exec", "box", "cat", "/sys/fs/cgroup/pids.max")).toBe("3\n");
});

test("cp of a container that has ended boots its machine without its process", () => {
	tsvmm("stop", "-t", "0", "box");
	tsvmm("cp", `${directory}/tree/sub/file`, "box:/root/late");
	tsvmm("cp", "box:/root/late", `${directory}/late`);
	expect(readFileSync(`${directory}/late`, "utf8")).toBe("from the host");
	const actions = tsvmm("events", "-f", "container=box", "--since", "1", "--until", "0s", "--format", "{{.Action}}");
	expect(
		actions
			.trim()
			.split("\n")
			.filter((action) => !action.startsWith("exec_")),
	).toEqual(["create", "start", "export", "commit", "update", "kill", "die", "stop"]);
	tsvmm("start", "box");
	expect(tsvmm("exec", "box", "cat", "/root/late")).toBe("from the host");
});

/*
 * What the agent does for a container under a real kernel, in the lab: process 1, capabilities, masked paths, control
 * groups, a disk that keeps what is written, and tools for images that have none.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-container-"));
const env = { ...process.env, TSVMM_RUNTIME: directory };
let image: string;

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-library.mjs")]);
	image = await ensureDemoImage("busybox");
	/* Prepares on this host what takes writing, and brings the lab up. */
	execFileSync(process.execPath, [program, "run", "-q", "--net", "none", image, "true"], { env });
});
afterAll(() => {
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

/** Runs a program that uses the library in the lab. Each `say` of it is one JSON value. */
async function inLab(body: string): Promise<unknown[]> {
	const source = `
		import { execFileSync } from "node:child_process";
		import { runContainer } from "${join(packageRoot(), "dist/lib/index.js")}";
		const text = async (stream) => Buffer.concat(await stream.toArray()).toString();
		const sh = (script) => ["sh", "-c", script];
		const image = "${image}";
		const say = (value) => console.log(JSON.stringify(value));
		${body}
	`;
	const argv = ["lab", "exec", "--", process.execPath, "--input-type=module", "-e", source];
	const child = spawn(process.execPath, [program, ...argv], { env, stdio: ["ignore", "pipe", "pipe"] });
	const [out, error] = await Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
	expect(Buffer.concat(error as Buffer[]).toString()).toBe("");
	const lines = Buffer.concat(out as Buffer[]).toString();
	return lines
		.trim()
		.split("\n")
		.map((line) => JSON.parse(line) as unknown);
}

test("a container has process 1, capabilities, paths and a control group as Docker's", async () => {
	const script = [
		"echo $$",
		"sed -n 's/^CapEff:.0*//p' /proc/self/status",
		"cat /proc/self/cgroup",
		"cat /proc/kcore 2>/dev/null | wc -c",
		"ls /sys/firmware | wc -l",
		"for path in /proc/sys/kernel/hostname /sys/new /sys/fs/cgroup/cgroup.freeze; do echo x > $path || echo no; done",
		"grep -c ' ro,' /proc/mounts",
	].join("; ");
	const [plain, privileged] = await inLab(`
		for (const privileged of [false, true]) {
			const container = await runContainer({ image, args: sh(${JSON.stringify(script)}), privileged });
			say((await text(container.stdout)).trim().split("\\n"));
			await container.ended;
		}
	`);
	expect(plain).toEqual(["1", "a80425fb", "0::/", "0", "0", "no", "no", "no", expect.stringMatching(/^\d+$/)]);
	expect((privileged as string[]).slice(0, 3)).toEqual(["1", expect.stringMatching(/^1ff[f]{7}/), "0::/"]);
	expect((privileged as string[]).at(-1)).toBe("0");
});

test("what a container writes is kept on its disk, which is clean after its end", async () => {
	const said = await inLab(`
		const writable = "/run/writable.img";
		execFileSync("truncate", ["-s", "64M", writable]);
		execFileSync("mkfs.ext4", ["-q", "-F", writable]);
		const first = await runContainer({ image, args: sh("echo kept > /kept; rm /etc/shells; cat"), stdin: "pipe", writable });
		const other = await first.exec({ args: sh("echo too > /other; echo written; sleep 100") });
		await new Promise((resolve) => other.stdout.once("data", resolve));
		first.stdin.end();
		say([await first.exit, (await first.ended).reason]);
		execFileSync("e2fsck", ["-f", "-n", writable], { stdio: "ignore" });
		say(String(execFileSync("dumpe2fs", ["-h", writable], { stdio: ["ignore", "pipe", "ignore"] })));
		const args = sh("cat /kept /other; ls /etc/shells; touch /x || echo read-only; touch /run/x && echo in RAM");
		const second = await runContainer({ image, args, writable, readOnlyRoot: true, tmpfs: [{ target: "/run" }] });
		say(await text(second.stdout));
		await second.ended;
	`);
	expect(said[0]).toEqual([{ code: 0 }, "power-off"]);
	expect(said[1]).toMatch(/^Filesystem state: +clean$/m);
	expect(said[1]).not.toMatch(/needs_recovery/);
	expect(said[2]).toBe("kept\ntoo\nread-only\nin RAM\n");
});

test("a control group bounds a container, and a tool of the agent's looks into it", async () => {
	const [bomb, processes, mine] = (await inLab(`
		const container = await runContainer({ image, args: ["cat"], stdin: "pipe", cgroupLimits: { "pids.max": "20" } });
		const loop = "i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; echo all";
		const bomb = await container.exec({ args: sh(loop) });
		say([await text(bomb.stdout), await bomb.exit]);
		const ps = await container.exec({ args: ["ps", "-o", "pid,args"], tool: "busybox" }).catch((error) => error);
		say(ps.message ?? (await text(ps.stdout)));
		container.kill();
		say(await container.exit);
		await container.ended;
	`)) as [unknown[], string, unknown];
	expect(bomb).toEqual(["", { code: 2 }]);
	expect(processes).toMatch(/^PID +COMMAND\n +1 cat\n/);
	expect(mine).toEqual({ signal: 9 });
});

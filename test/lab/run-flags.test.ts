/*
 * Flags of `run` under a real kernel: ports that tsvmm chooses, disks of the host, volumes that take what the image has.
 * Where this machine has no KVM the commands run in the lab, one lab for all.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import type { Explanation } from "../../src/explain/explanation.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";
import { testKernel } from "./linux.ts";

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-flags-"));
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
	expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: "" });
	return stdout;
}

test("-P publishes what is exposed on ports that this machine has free, too", async () => {
	const script = "mkdir /www; echo served >/www/index.html; httpd -p 81 -h /www; echo ready; exec httpd -f -h /www";
	const flags = ["-q", "--name", "web", "-P", "--expose", "80", "-p", "127.0.0.1::81"];
	const child = spawn(process.execPath, [program, "run", ...flags, image, "sh", "-c", script], {
		env,
		stdio: ["ignore", "pipe", "inherit"],
	});
	const ended = new Promise((resolve) => child.once("close", resolve));
	await new Promise((resolve) => child.stdout.once("data", resolve));
	const ports = must("port", "web");
	expect(ports).toMatch(/^81\/tcp -> 127\.0\.0\.1:\d+\n80\/tcp -> 0\.0\.0\.0:\d+\n$/);
	for (const [, port] of ports.matchAll(/:(\d+)$/gm)) {
		expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("served\n");
		expect(must("ps", "--format", "{{.Ports}}")).toContain(`:${port}->`);
	}
	must("rm", "-f", "web");
	await ended;
});

test("export has the root alone, with what is mounted in it as empty directories", () => {
	const mounts = ["-v", "kept:/data", "--tmpfs", "/scratch"];
	const script = "echo x >/data/file; echo x >/scratch/file; echo x >/var/own; exec sleep 1000";
	must("run", "-q", "-d", "--net", "none", "--name", "box", ...mounts, image, "sh", "-c", script);
	must("export", "-o", join(directory, "box.tar"), "box");
	const names = execFileSync("tar", ["-tf", join(directory, "box.tar")], { encoding: "utf8" }).split("\n");
	expect(names.filter((name) => /^\.\/(dev|proc|sys|data|scratch|var\/own)/.test(name)).sort()).toEqual([
		...["./data/", "./dev/", "./proc/", "./scratch/", "./sys/", "./var/own"],
	]);
	/* One that is not made leaves no volume of its own. */
	const again = tsvmm("create", "-q", "--name", "box", "-v", "/anonymous", image, "true");
	expect(again).toMatchObject({ status: 125, stderr: expect.stringContaining("ERR_CONTAINER_NAME_IN_USE") });
	expect(must("volume", "ls", "-q")).toBe("kept\n");
	must("rm", "-f", "box");
	must("volume", "rm", "kept");
});

test("--device gives a file of the host as a disk, for reading alone when it says so", () => {
	const [data, label] = [join(directory, "data.img"), join(directory, "label.img")];
	writeFileSync(data, Buffer.alloc(1 << 20));
	chmodSync(data, 0o640);
	writeFileSync(label, Buffer.concat([Buffer.from("from the host\n"), Buffer.alloc(4082)]));
	const script = `
		stat -c '%F %a' /dev/xvda
		head -n 1 ${label}
		echo written >/dev/xvda && sync
		echo x 2>/dev/null >${label} || echo read-only`;
	const devices = ["--device", `${data}:/dev/xvda`, "--device", `${label}:r`];
	expect(must("run", "-q", "--rm", "--net", "none", ...devices, image, "sh", "-c", script)).toBe(
		"block special file 640\nfrom the host\nread-only\n",
	);
	expect(readFileSync(data, "latin1").slice(0, 8)).toBe("written\n");
	const refused = tsvmm("run", "-q", "--rm", "--device", "/dev/null", image, "true");
	expect(refused).toMatchObject({ status: 125, stderr: expect.stringContaining("ERR_RUN_DEVICE") });
	/* In a machine with others it comes and goes by hot-plug. */
	must("pod", "create", "--network", "none", "pod");
	const cat = ["--device", `${label}:/dev/label:r`, image, "head", "-n", "1", "/dev/label"];
	for (let i = 0; i < 2; i++) expect(must("run", "-q", "--rm", "--pod", "pod", ...cat)).toBe("from the host\n");
	must("pod", "rm", "-f", "pod");
});

test("a new volume gets what the image has at its target, and keeps what it has", () => {
	const run = (volume: string, script: string) =>
		must("run", "-q", "--rm", "--net", "none", "-v", volume, image, "sh", "-c", script);
	expect(run("conf:/etc", "ls -d /etc/passwd; stat -c '%a %u' /etc; rm /etc/group; echo mine >/etc/own")).toBe(
		"/etc/passwd\n755 0\n",
	);
	expect(run("conf:/etc", "cat /etc/own; ls /etc/group 2>&1; true")).toBe(
		"mine\nls: /etc/group: No such file or directory\n",
	);
	expect(run("bare:/etc:nocopy", "ls /etc/passwd 2>&1; true")).toBe("ls: /etc/passwd: No such file or directory\n");
	must("volume", "rm", "conf", "bare");
});

test("--detach-keys leaves a container and a process in it alone, and both go on", async () => {
	/* script(1) is the terminal; the keys are typed when there is a prompt. */
	const typed = async (words: readonly string[]) => {
		const line = [process.execPath, program, ...words].map((word) => `'${word}'`).join(" ");
		const child = spawn("script", ["-qec", line, "/dev/null"], { env, stdio: ["pipe", "pipe", "inherit"] });
		child.stdout.once("data", () => child.stdin.write("\x10\x11"));
		return await new Promise((resolve) => child.once("close", resolve));
	};
	const keys = ["--detach-keys", "ctrl-p,ctrl-q"];
	const loop = ["sh", "-c", "echo ready; while :; do sleep 1; done"];
	const flags = ["-q", "-it", "--net", "none", "--name", "left", "--log-opt", "max-size=1k", "--log-opt", "max-file=3"];
	expect(await typed(["run", ...flags, ...keys, image, ...loop])).toBe(0);
	expect(must("ps", "--format", "{{.Names}} {{.State}}")).toBe("left running\n");
	expect(await typed(["exec", "-it", ...keys, "left", ...loop])).toBe(0);
	expect(must("top", "left").match(/echo ready/g)).toHaveLength(2);
	/* Its log rotates. */
	must("exec", "left", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo line $i >/dev/pts/0; sleep 0.1; done");
	const lines = must("logs", "--tail", "3", "left");
	expect(lines).toBe("line 7\r\nline 8\r\nline 9\r\n");
	must("rm", "-f", "left");
});

test("a disk that fills under the state directory is told of, and what fits again after rm is all of it", () => {
	const tool = `${process.execPath} -- ${program}`;
	const big = "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sync; exit 3";
	const script = `
		mkdir -p /run/small && mount -t tmpfs -o size=8m tmpfs /run/small
		export TSVMM_STATE=/run/small
		${tool} run -q --net none --name box ${image} sh -c '${big}'; echo "first $?"
		head -c 16m /dev/zero >/run/small/filler 2>/dev/null
		${tool} create -q --net none ${image} true; echo "create $?"
		${tool} start box; echo "start $?"
		rm /run/small/filler
		${tool} rm box; echo "rm $?"
		ls -A /run/small/containers
		${tool} run -q --rm --net none ${image} echo again
		umount /run/small`;
	const { stdout, stderr } = tsvmm("lab", "exec", "-q", "--", "sh", "-c", script);
	expect(stdout).toBe("first 3\ncreate 125\nstart 125\nbox\nrm 0\n.lock\nagain\n");
	expect(stderr.match(/Cannot write in \/run\/small: no space left on device \[ERR_STATE_FULL\]/g)).toHaveLength(2);
});

/** A command with its output so far, and its end. */
function begun(...args: string[]) {
	const child = spawn(process.execPath, [program, ...args], { env });
	let all = "";
	for (const stream of [child.stdout, child.stderr]) stream.on("data", (text: Buffer) => (all += text));
	const status = new Promise<number | null>((resolve) => child.once("close", resolve));
	const shows = (wanted: RegExp) =>
		vi.waitFor(() => expect(all).toMatch(wanted), { timeout: 240_000, interval: 100 }).then(() => wanted.exec(all)!);
	return { stdin: child.stdin, status, shows };
}

/** What the inspector answers without the token and with it. */
async function memoryAt(url: string): Promise<{ statuses: number[]; post: (action: string) => Promise<number> }> {
	const { origin, hash } = new URL(url);
	const headers = { Authorization: `Bearer ${hash.slice(1)}` };
	const memory = `${origin}/api/memory?address=0x1000&length=16`;
	const statuses = [await fetch(memory), await fetch(memory, { headers })].map(({ status }) => status);
	const post = async (action: string) => (await fetch(`${origin}/api/${action}`, { method: "POST", headers })).status;
	return { statuses, post };
}

function gdb(symbols: string, port: number, ...commands: string[]): string {
	const words = ["set pagination off", "set tcp connect-timeout 60", "set remotetimeout 60"];
	const all = [...words, `target remote 127.0.0.1:${port}`, ...commands, "detach"];
	const args = ["--nx", "--quiet", "--batch", symbols, ...all.flatMap((command) => ["-ex", command])];
	const { stdout, stderr } = spawnSync("gdb", args, { encoding: "utf8" });
	return stdout + stderr;
}

test("--gdb-wait and --inspect show a container's machine, which goes on to its own exit status", async () => {
	const { vmlinux } = await testKernel("minimal");
	const ports = createServer().listen(0, "127.0.0.1");
	await once(ports, "listening");
	const { port } = ports.address() as { port: number };
	ports.close();
	await once(ports, "close");
	const flags = ["--rm", "-i", "--net", "none", "--gdb", `${port}`, "--gdb-wait", "--inspect"];
	const run = begun("run", ...flags, image, "sh", "-c", "echo up; read word; exit $word");
	const [, url] = await run.shows(/inspector at (\S+)\n/);
	await run.shows(/gdb can attach: target remote/);
	expect((await memoryAt(url!)).statuses).toEqual([401, 200]);
	/* Before its first instruction there is no paging. */
	expect(gdb(`${vmlinux}.debug`, port, "print/x $cr0 & 0x80000000")).toContain("$1 = 0x0");
	await run.shows(/^up$/m);
	expect(gdb(`${vmlinux}.debug`, port, "backtrace")).toMatch(/ in start_kernel \(\) at init\/main\.c:\d+/);
	run.stdin.end("7\n");
	expect(await run.status).toBe(7);
});

test("boot --inspect has its page on this machine, and the page lets a machine go on that waits", async () => {
	const { vmlinux } = await testKernel("minimal");
	const boot = begun("boot", "--kernel", vmlinux, "--memory", "128M", "--inspect", "--gdb", "0", "--gdb-wait");
	const [, url] = await boot.shows(/inspector at (\S+)\n/);
	const { statuses, post } = await memoryAt(url!);
	expect(statuses).toEqual([401, 200]);
	expect(await post("resume")).toBe(200);
	/* It has no root file system. */
	await boot.shows(/guest kernel panic: VFS: Unable to mount root fs/);
	expect(await boot.status).toBe(101);
});

test("--trace-file and --fault of a container, and a dump and an explanation of it while it runs", () => {
	const at = (name: string) => join(directory, name);
	const files = ["--trace-file", at("t.jsonl"), "--trace-file", at("t.pcapng")];
	const kept = ["run", "-q", "-d", "--net", "none", "--name", "seen", "-v", `${directory}:/host:ro`, ...files];
	must(...kept, image, "sh", "-c", "cat /host/t.jsonl >/dev/null; sleep 1000 & wait; exit 7");
	const { state, look, devices } = JSON.parse(must("explain", "--json", "seen")) as Explanation;
	expect(look).toEqual({ seconds: 1, state: "running" });
	expect(state?.symbols[0]).toMatch(/^[a-z]\w+\+0x[0-9a-f]+/);
	expect(devices.map(({ id }) => id)).toEqual(expect.arrayContaining(["root", "writable", "vsock", "share0"]));
	must("dump", "seen", at("core"));
	expect(execFileSync("readelf", ["-h", at("core")], { encoding: "utf8" })).toContain("CORE (Core file)");
	must("rm", "-f", "seen");
	const events = readFileSync(at("t.jsonl"), "utf8").trim().split("\n");
	const seen = new Set(events.map((line) => (JSON.parse(line) as { device?: string }).device));
	expect([...seen]).toEqual(expect.arrayContaining(["virtio-blk0", "virtio-blk1", "virtio-vsock0", "virtio-fs0"]));
	const packets = execFileSync("tshark", ["-r", at("t.pcapng"), "-Y", "vsock"], { encoding: "utf8" });
	expect(packets.split("\n").length).toBeGreaterThan(10);

	const faults = ["--fault", "writable:write:io-error", "--trace", "boot"];
	const failed = tsvmm("run", "--rm", "--net", "none", ...faults, image, "true");
	expect(failed).toMatchObject({ status: 125, stderr: expect.stringMatching(/mount ext4 .*I\/O error/) });
	expect(failed.stderr).toMatch(/^trace: \d\.\d+ boot entry/m);
	expect(failed.stderr).toMatch(/^tsvmm: fault writable:write:io-error hit [1-9]\d* of \d+$/m);
});

/*
 * Flags of `run` under a real kernel: ports that tsvmm chooses, disks of the host, volumes that take what the image has.
 * Where this machine has no KVM the commands run in the lab, one lab for all.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

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

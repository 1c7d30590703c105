/*
 * The C agent, built with address and undefined-behaviour sanitizers, against random and mutated frames. It runs in
 * namespaces and a root of its own without the rights to set the clock or to reboot, because some frames do make sense.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { encodeFrame, encodeHello, encodeList, encodeU32, FRAME } from "../../src/agent/protocol.ts";
import { connectSoon } from "./native-agent.ts";
import { Random, randomFrame } from "./random.ts";

const sources = fileURLToPath(new URL("../../guests/agent", import.meta.url));
const directory = mkdtempSync(`${tmpdir()}/tsvmm-fuzz-`);
const root = `${directory}/root`;
const socketPath = `${root}/socket/agent`;
const FLAGS = [
	"-D_GNU_SOURCE=",
	"-g",
	"-O1",
	"-std=gnu11",
	"-fsanitize=address,undefined",
	"-fno-sanitize-recover=all",
];
const BOUND = ["usr", "bin", "lib", "lib64"];

let agent: ChildProcess | undefined;
let stderr = "";

beforeAll(() => {
	for (const name of [...BOUND, "socket", "proc", "dev", "tmp", "etc"])
		mkdirSync(`${root}/${name}`, { recursive: true });
	const files = readdirSync(sources).filter((name) => name.endsWith(".c"));
	execFileSync("gcc", [...FLAGS, "-o", `${root}/agent`, ...files.map((name) => `${sources}/${name}`)]);
	const binds = BOUND.filter((name) => existsSync(`/${name}`)).map(
		(name) => `mount -o bind,ro /${name} ${root}/${name}`,
	);
	const script = [
		"mount --make-rprivate /",
		...binds,
		`mount -t proc -o ro proc ${root}/proc`,
		`mount -t tmpfs tmpfs ${root}/dev`,
		`mknod ${root}/dev/null c 1 3`,
		`mount -t devpts -o newinstance,ptmxmode=0666 devpts $(mkdir ${root}/dev/pts && echo ${root}/dev/pts)`,
		`ln -s pts/ptmx ${root}/dev/ptmx`,
		`exec setpriv --bounding-set -sys_time,-sys_boot,-sys_module,-sys_rawio chroot ${root} /agent --stream unix:/socket/agent`,
	].join(" && ");
	const unshare = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "sh", "-c", script];
	agent = spawn("unshare", unshare, {
		stdio: ["ignore", "ignore", "pipe"],
		env: {
			PATH: process.env.PATH,
			ASAN_OPTIONS: "detect_leaks=0:abort_on_error=0",
			UBSAN_OPTIONS: "print_stacktrace=1",
		},
	});
	agent.stderr!.on("data", (chunk) => {
		stderr += chunk;
	});
}, 60_000);

afterAll(async () => {
	const ended = new Promise((resolve) => agent?.once("exit", resolve));
	if (agent?.exitCode === null && agent.kill("SIGKILL")) await ended;
	rmSync(directory, { recursive: true, force: true });
});

function dial(): Promise<Socket> {
	return connectSoon(socketPath).catch((cause) => {
		throw new Error(`the agent does not listen: ${stderr}`, { cause });
	});
}

const list = (...entries: [string, string][]) => encodeList(entries)[0]!;

/** Requests that make sense, to be mutated. */
const LISTS: readonly (readonly [type: number, payload: Buffer])[] = [
	[FRAME.EXEC, list(["arg", "true"])],
	[FRAME.EXEC, list(["arg", "cat"], ["env", "PATH=/bin"], ["user", "7:8"], ["cwd", "/tmp/a/b"])],
	[FRAME.EXEC, list(["arg", "sh"], ["arg", "-c"], ["arg", "echo $$; sleep 0.05"], ["stdin", "null"])],
	[FRAME.EXEC, list(["arg", "cat"], ["tty", "80x25"])],
	[FRAME.EXEC, list(["arg", "true"], ["container", "a"])],
	[FRAME.EXEC, list(["arg", "cat"], ["container", "a"], ["init", "1"])],
	[FRAME.EXEC, list(["arg", "true"], ["caps", "a80425fb"], ["nnp", "1"], ["group", "7"], ["umask", "77"])],
	[FRAME.EXEC, list(["arg", "true"], ["rlimit", "nofile:64:unlimited"], ["rlimit", "core:0:0"], ["oom", "500"])],
	[FRAME.EXEC, list(["arg", "nowhere"], ["container", "b"], ["init", "1"], ["tty", "80x25"])],
	[FRAME.EXEC, list(["arg", "cat"], ["tool", "busybox"], ["container", "a"])],
	[FRAME.EXEC, list(["arg", "cat"], ["root", "/"], ["mkcwd", "0"], ["env", "HOME=/"])],
	[FRAME.SETUP, list(["container", "a"], ["hostname", "x"], ["mount", "tmpfs\ttmpfs\t/tmp\tro,size=4k,mode=755"])],
	[FRAME.SETUP, list(["container", "b"], ["namespaces", "uts,net"], ["up", "lo"], ["address", "lo\t127.0.0.2/8"])],
	[FRAME.SETUP, list(["container", "d"], ["join", "b\tuts,pid"], ["join", "c\tipc"], ["hostname", "d"])],
	[FRAME.SETUP, list(["container", "c"], ["namespaces", "cgroup"], ["cgroup?", "x\tpids.max=5"], ["mask", "/etc"])],
	[FRAME.SETUP, list(["mask", "/nowhere"], ["readonly", "/tmp"], ["directory", "/tmp/d\t"])],
	[FRAME.SETUP, list(["file", "/tmp/f\t644\tx"], ["directory", "/tmp/d\t755"], ["link", "x\t/tmp/l"])],
	[FRAME.SETUP, list(["node?", "/tmp/n\t600\t1\t3"], ["mtu?", "lo\t1500"], ["gateway?", "127.0.0.9"])],
	[FRAME.SETUP, list(["container", "a"], ["wait?", "/tmp"], ["dance", ""])],
	[FRAME.REMOVE, list(["container", "a"])],
	[FRAME.REMOVE, list(["container", "b"])],
	[FRAME.REMOVE, list(["container", "c"])],
];
/** Every type; any other ends the connection at once. */
const ALL = Array.from({ length: 20 }, (_, i) => i + 1);

function nextFrame(random: Random, wild: boolean): Buffer {
	const session = random.below(6);
	if (random.below(3) > 0) {
		const [type, payload] = random.of(LISTS);
		const flags = random.below(6) === 0 ? 1 : 0;
		return encodeFrame(type, flags, session, wild && random.below(3) === 0 ? random.mutate(payload) : payload);
	}
	if (wild) return randomFrame(random, ALL, [0, 1, 2, 3, 4, 5, 0xffff_ffff]);
	return random.of([
		() => encodeFrame(FRAME.STDIN, 0, session, random.bytes(random.below(200))),
		() => encodeFrame(FRAME.STDIN, 0, session, Buffer.alloc(65536)),
		() => encodeFrame(FRAME.STDIN_CLOSE, 0, session),
		() => encodeFrame(FRAME.SIGNAL, random.below(2), session, encodeU32(random.of([1, 15, 28, 0, 200]))),
		() => encodeFrame(FRAME.RESIZE, 0, session, encodeU32(random.below(1 << 30))),
		() => encodeFrame(FRAME.CREDIT, random.below(4), session, encodeU32(random.of([1, 70000, 0xffff_ffff]))),
		() => encodeFrame(FRAME.CLOSE, 0, session),
		() => encodeFrame(FRAME.PING, 0, session, Buffer.alloc(random.of([0, 64, 5000]))),
		() => encodeHello(random.bytes(8), random.below(4) === 0),
	])();
}

test("the agent survives random frames under the address and undefined-behaviour sanitizers", async () => {
	for (let seed = 1; seed <= 24; seed++) {
		const random = new Random(seed);
		const socket = await dial();
		const closed = new Promise((resolve) => socket.once("close", resolve));
		let answered = 0;
		socket.on("error", () => undefined);
		if (seed % 5 !== 0) {
			socket.on("data", (chunk) => {
				answered += chunk.length;
			});
		} /* else nobody reads, and the agent's buffers fill */
		socket.write(encodeHello(random.bytes(8), true));
		for (let i = 0; i < 60; i++) {
			const frame = nextFrame(random, seed % 2 === 0);
			const bytes = seed % 4 === 0 && random.below(30) === 0 ? random.mutate(frame) : frame;
			const cut = random.below(bytes.length + 1);
			socket.write(bytes.subarray(0, cut));
			socket.write(bytes.subarray(cut));
			if (i % 10 === 9) await sleep(5);
		}
		const orderly = seed % 5 !== 0 && seed % 4 !== 0; /* it is read, and no header was mutated */
		for (let i = 0; orderly && answered === 0 && i < 1000; i++) await sleep(10);
		if (orderly) expect(answered, stderr).toBeGreaterThan(0);
		socket.destroy();
		await closed;
		expect(agent?.exitCode, stderr).toBe(null);
	}
	const client = new AgentClient(await dial());
	await client.hello();
	const session = await client.exec({ args: ["echo", "alive"], env: { PATH: "/bin" } });
	expect(Buffer.concat(await session.stdout.toArray()).toString()).toBe("alive\n");
	client.close();
	expect(stderr).not.toMatch(/Sanitizer|runtime error/);
}, 120_000);

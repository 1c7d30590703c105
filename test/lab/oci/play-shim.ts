/*
 * In the lab: what happens to tasks when a shim or containerd is killed, pods, and the methods of a shim that ctr does not
 * call. Prints what was seen as JSON.
 *
 *     node play-shim.mjs SHIM IMAGE       IMAGE: an archive
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode, type Message } from "../../../src/shim/messages.ts";
import { type RpcError, TtrpcClient } from "../../../src/shim/ttrpc.ts";
import { defaultConfig } from "../../oci/bundles.ts";
import { Containerd, HOME, leftovers, SOCKET } from "./containerd.ts";

const RUNC = "io.containerd.runc.v2";
const TSVMM = "io.containerd.tsvmm.v2";
const SANDBOX = "--annotation io.kubernetes.cri.sandbox-id=p1 --annotation io.kubernetes.cri.container-type=sandbox";
const MEMBER = "--annotation io.kubernetes.cri.sandbox-id=p1 --annotation io.kubernetes.cri.container-type=container";

const [shim = "", archive = ""] = process.argv.slice(2);
const containerd = await Containerd.start(shim, archive);

/** A line's output and status. */
function play(line: string, runtime?: string): string {
	return containerd.run(`(${line}) 2>&1; echo "= $?"`, runtime);
}

/** Waits until it holds. @throws Error with `what` when it does not */
async function until(what: string, holds: () => boolean): Promise<void> {
	for (let tries = 0; !holds(); tries++) {
		if (tries === 300) throw new Error(`${what} has not come about; left: ${leftovers("play-shim").join("\n")}`);
		await sleep(200);
	}
}

/** Processes whose command line has all of these. */
function pids(...words: string[]): number[] {
	return execFileSync("ps", ["-eo", "pid=,args="], { encoding: "utf8" })
		.split("\n")
		.filter((line) => words.every((word) => line.includes(word)))
		.map((line) => Number.parseInt(line, 10));
}

function addressOf(id: string): string {
	return readFileSync(`${HOME}/state/io.containerd.runtime.v2.task/default/${id}/address`, "utf8");
}

async function nothingLeft(): Promise<string[]> {
	await until("the end of all", () => leftovers("play-shim").length === 0).catch(() => undefined);
	return leftovers("play-shim");
}

/** A shim that is killed while its task runs, and another task in the same network namespace. */
async function killedShim(runtime: string): Promise<object> {
	execFileSync("/bin/sh", [
		"-ec",
		`
		ip netns add k; ip link add k0 type veth peer name k1 netns k
		ip address add 10.77.0.1/24 dev k0; ip link set k0 up
		ip -n k address add 10.77.0.2/24 dev k1; ip -n k link set k1 up`,
	]);
	const started = play("ctr run -d --with-ns network:/run/netns/k IMAGE k sleep 1000", runtime);
	const processes = pids("-id k ", "-namespace");
	for (const pid of processes) process.kill(pid, "SIGKILL");
	await until("the end of the task", () => play("ctr task ls -q") === "= 0\n");
	const after = play(
		"ctr task ls -q; ctr task kill k 2>&1 | sed 's/task k not found: //'; ctr container rm k; ctr container ls -q",
	);
	const ping = "ping -c 1 -W 9 10.77.0.1 | grep received";
	const next = play(`ctr run --rm --with-ns network:/run/netns/k IMAGE n sh -c '${ping}'`, runtime);
	/* A machine leaves its namespace a moment after its container has ended. */
	await until("the end of its interfaces", () => play("ip -n k -o link | wc -l") === "2\n= 0\n");
	execFileSync("ip", ["netns", "delete", "k"]);
	return { started, killed: processes.length, after, next, left: await nothingLeft() };
}

/** containerd that is killed while a task runs, and once more while it ends. */
async function killedDaemon(runtime: string): Promise<object> {
	const started = play("ctr run -d IMAGE r sleep 1000", runtime);
	await containerd.down();
	await containerd.up();
	const again = play(
		"ctr task ls | grep -o 'r .*RUNNING' | sed 's/ [0-9 ]*/ /'; ctr task exec --exec-id e r echo inside",
	);
	const [, pid = ""] = /^r +(\d+)/m.exec(play("ctr task ls")) ?? [];
	await containerd.down();
	process.kill(Number(pid), "SIGKILL");
	await sleep(1000);
	await containerd.up();
	await until("the end of the task", () => play("ctr task ls").includes("STOPPED"));
	const ended = play("ctr task rm r 2>&1 | grep -o 'exit code [0-9]*'; ctr container rm r; ctr container ls -q");
	return { started, again, ended, left: await nothingLeft() };
}

/** Two that are started at once for one pod, before there is a task. */
async function twoStarts(): Promise<object> {
	const starts = ["s1", "s2"].map((id) => {
		const bundle = `${HOME}/scratch/${id}`;
		mkdirSync(`${bundle}/rootfs`, { recursive: true });
		const annotations = { "io.kubernetes.cri.sandbox-id": "pod" };
		writeFileSync(`${bundle}/config.json`, JSON.stringify({ ...defaultConfig(), annotations }));
		const words = ["-namespace", "default", "-address", SOCKET, "-id", id, "start"];
		const child = spawn(`${HOME}/bin/containerd-shim-tsvmm-v2`, words, { cwd: bundle, env: containerd.env });
		let output = "";
		for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += String(chunk)));
		return new Promise<string>((resolve) => child.once("close", (status) => resolve(`${output} ${status}`)));
	});
	const [one = "", other = ""] = await Promise.all(starts);
	await until("one shim", () => pids("shim", "-namespace default", "serve").length === 1);
	const client = new TtrpcClient(one.replace(/^unix:\/\/(\S*) .*$/, "$1"));
	await client.call("containerd.task.v2.Task", "Shutdown", encode("ShutdownRequest", { id: "s1", now: true }));
	client.close();
	return { isOne: one === other, address: one.replace(/[0-9a-f]{64}/, "HASH"), left: await nothingLeft() };
}

/** What a shim answers. */
async function ask(address: string, method: string, [request, message]: [string, Message], answer?: string) {
	const client = new TtrpcClient(address.replace(/^unix:\/\//, ""));
	try {
		const bytes = await client.call("containerd.task.v3.Task", method, encode(request, message));
		return answer === undefined ? {} : decode<Record<string, unknown>>(answer, bytes);
	} catch (error) {
		const { code, message: text } = error as RpcError;
		return { code, text };
	} finally {
		client.close();
	}
}

interface Any {
	value: Uint8Array;
}

/** Two containers of a pod, which has one shim and one machine, and the shim's own methods. */
async function pod(): Promise<object> {
	const started = play(`ctr run -d ${SANDBOX} IMAGE p1 sleep 1000; ctr run -d ${MEMBER} IMAGE p2 sleep 1000`, TSVMM);
	const shims = pids("shim", "-namespace default", "serve");
	const addresses = [addressOf("p1"), addressOf("p2")];
	const bootId = (id: string) => play(`ctr task exec --exec-id b ${id} cat /proc/sys/kernel/random/boot_id`);
	const machines = [bootId("p1"), bootId("p2")];
	const names = play("ctr task exec --exec-id c p2 sh -c 'ps | grep -c [s]leep.1000; cat /proc/1/comm'");
	const [address = ""] = addresses;
	const limits = { value: Buffer.from(JSON.stringify({ memory: { limit: 100 << 20 } })) };
	const updated = await ask(address, "Update", ["UpdateTaskRequest", { id: "p2", resources: limits }]);
	const { stats } = (await ask(address, "Stats", ["ProcessRequest", { id: "p2" }], "StatsResponse")) as { stats: Any };
	const { memory } = decode<{ memory: Record<string, number> }>("Metrics", stats.value);
	const connected = await ask(address, "Connect", ["ProcessRequest", { id: "p2" }], "ConnectResponse");
	const asked = {
		state: await ask(address, "State", ["ProcessRequest", { id: "p2" }], "StateResponse"),
		pids: await ask(address, "Pids", ["ProcessRequest", { id: "p2" }], "PidsResponse"),
		shutdown: await ask(address, "Shutdown", ["ShutdownRequest", { id: "p2" }]),
		wrong: await ask(address, "Update", ["UpdateTaskRequest", { id: "p2", resources: { value: Buffer.from("{") } }]),
		twice: await ask(address, "Create", ["CreateTaskRequest", { id: "p2", bundle: "/" }]),
		resize: await ask(address, "ResizePty", ["ResizePtyRequest", { id: "p2", width: 80, height: 24 }]),
		close: await ask(address, "CloseIO", ["CloseIORequest", { id: "p2", stdin: true }]),
		exec: await ask(address, "Start", ["ProcessRequest", { id: "p2", exec_id: "none" }]),
	};
	const first = play("ctr task rm -f p2 2>/dev/null; ctr container rm p2; ctr task exec --exec-id d p1 echo stays");
	const isLeft = pids("shim", "-namespace default", "serve").length === 1;
	const second = play("ctr task rm -f p1 2>/dev/null; ctr container rm p1; ctr container ls -q");
	return {
		...{ started, shims: shims.length, isOneAddress: addresses[0] === addresses[1] },
		...{ isOneMachine: machines[0] === machines[1] && machines[0]!.length > 36, names },
		...{ updated, limit: memory.usage_limit, isConnected: connected.shim_pid === shims[0], asked },
		...{ first, isLeft, second, left: await nothingLeft() },
	};
}

/** containerd's shim for runc, with our command line in place of runc. */
async function asRunc(binary: string): Promise<object> {
	const tty = `tty "ctr run --rm -t --runc-binary ${binary} IMAGE v sh -c 'until stty size | grep 30.100; do sleep 1; done; tty; exit 6'"`;
	const lines = [
		`ctr run -d --runc-binary ${binary} IMAGE w sh -c 'trap "exit 5" TERM; while :; do sleep 1; done'`,
		"ctr task exec --exec-id e w sh -c 'echo in; echo err >&2; exit 9'",
		"ctr task exec --exec-id e w nosuch",
		"ctr task pause w; ctr task ls | grep -o PAUSED; ctr task resume w; ctr task ls | grep -o RUNNING",
		"ctr task metrics w | grep -c pids.current; ctr task ps w | grep -c '^[0-9]' | sed 's/[1-9][0-9]*/N/'",
		"ctr task kill w; ended w; ctr task rm w 2>&1 | grep -o 'exit code [0-9]*'; ctr container rm w; ctr container ls -q",
		`ctr run --rm --runc-binary ${binary} IMAGE x nosuch`,
		tty,
	];
	const answers = lines.map((line) => play(line, RUNC).replaceAll("tsvmm-oci", "runc"));
	return { answers, left: await nothingLeft() };
}

const results: Record<string, object> = {};
const scenes: [string, () => Promise<object>][] = [
	["killed shim of runc", () => killedShim(RUNC)],
	["killed shim", () => killedShim(TSVMM)],
	["killed daemon with runc", () => killedDaemon(RUNC)],
	["killed daemon", () => killedDaemon(TSVMM)],
	["two starts", twoStarts],
	["pod", pod],
	["runc", () => asRunc("runc")],
	["as runc", () => asRunc("tsvmm-oci")],
];
for (const [name, scene] of scenes) {
	if (process.env.SCENE !== undefined && !name.includes(process.env.SCENE)) continue;
	results[name] = await scene().catch((error: Error) => ({ error: error.message }));
}
await containerd.down();
process.stdout.write(JSON.stringify(results));

/*
 * In the lab: plays ctr's command lines with a runtime of containerd's, and prints what each has answered, and what is left
 * at the end. containerd's files are in the lab's RAM.
 *
 *     node play-ctr.mjs TABLE IMAGE SHIM RUNTIME...     TABLE: a JSON file with { lines }; IMAGE: an archive
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [table, image, shim, ...runtimes] = process.argv.slice(2);
const { lines } = JSON.parse(readFileSync(table, "utf8"));
const home = "/run/ctr-test";
const socket = `${home}/containerd.sock`;
const env = { ...process.env, PATH: `${home}/bin:${process.env.PATH}` };
const ctr = `ctr -a ${socket}`;

/** Starts containerd, with the image. @returns what ends it */
async function prepare() {
	execFileSync("/bin/sh", ["-ec", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup"]);
	mkdirSync(`${home}/bin`, { recursive: true });
	copyFileSync(image, `${home}/image.tar`);
	symlinkSync(shim, `${home}/bin/containerd-shim-tsvmm-v2`);
	const plugins = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]';
	const files = `root = "${home}/root"\nstate = "${home}/state"\n[grpc]\naddress = "${socket}"\n`;
	writeFileSync(`${home}/config.toml`, `version = 2\n${plugins}\n${files}`);
	const daemon = spawn("containerd", ["-c", `${home}/config.toml`], { env, stdio: "ignore" });
	while (!existsSync(socket)) await sleep(100);
	execFileSync("/bin/sh", ["-ec", `${ctr} image import --snapshotter native ${home}/image.tar`], { env });
	const name = execFileSync("/bin/sh", ["-ec", `${ctr} image ls -q`], { env, encoding: "utf8" }).trim();
	return { name, end: () => daemon.kill() };
}

/** What tasks must not leave behind. */
function leftovers() {
	const processes = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
	const inside = (path) => (existsSync(path) ? readdirSync(path) : []);
	return [
		...processes.filter((line) => /stand-in|shim/.test(line) && !line.includes("play-ctr")),
		...readFileSync("/proc/mounts", "utf8")
			.split("\n")
			.filter((line) => line.includes(`${home}/state`)),
		...inside("/run/tsvmm-shim/default"),
		...inside("/run/containerd/s"),
	];
}

async function play(runtime, name) {
	const answers = [];
	for (const line of lines) {
		const script = line
			.replaceAll("ctr run ", `${ctr} run --runtime ${runtime} --snapshotter native `)
			.replaceAll("ctr task ", `${ctr} task `)
			.replaceAll("ctr container ", `${ctr} container `)
			.replaceAll("IMAGE", name);
		const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", script], { env, encoding: "utf8", input: "" });
		answers.push({ line, status, stdout, stderr });
	}
	/* A shim ends a moment after its last task. */
	await sleep(3000);
	return { rows: answers, left: leftovers() };
}

const { name, end } = await prepare();
const answers = {};
for (const runtime of runtimes) answers[runtime] = await play(runtime, name);
end();
process.stdout.write(JSON.stringify(answers));

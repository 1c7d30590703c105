/*
 * In the lab: a containerd with its files in the lab's RAM, and what tasks must not leave behind.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const HOME = "/run/ctr-test";
export const SOCKET = `${HOME}/containerd.sock`;
const SHIMS = "/run/containerd/s";

/** For command lines: a directory of their own, and functions (ctr-rows.ts). */
const PRELUDE = `
runs() { until ctr task ls | grep -q "^$1 .*RUNNING"; do sleep 0.5; done; }
ended() { until ctr task ls | grep -q "^$1 .*STOPPED"; do sleep 0.5; done; }
tty() {
	script -qec "stty cols 100 rows 30; \${2:+($2; stty -F /dev/tty cols 77 rows 33) >/dev/null 2>&1 &} $1" /dev/null </dev/null
}
`;

export class Containerd {
	/** Of what runs command lines. */
	readonly env: NodeJS.ProcessEnv;
	#image = "";
	#daemon: ChildProcess | undefined;

	private constructor(env: NodeJS.ProcessEnv) {
		this.env = env;
	}

	/** @param shim containerd-shim-tsvmm-v2.js; `archive` has an image */
	static async start(shim: string, archive: string): Promise<Containerd> {
		execFileSync("/bin/sh", ["-ec", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup"]);
		mkdirSync(`${HOME}/bin`, { recursive: true });
		mkdirSync(`${HOME}/scratch`);
		copyFileSync(archive, `${HOME}/image.tar`);
		symlinkSync(shim, `${HOME}/bin/containerd-shim-tsvmm-v2`);
		symlinkSync(join(dirname(shim), "tsvmm-oci.js"), `${HOME}/bin/tsvmm-oci`);
		/* Of a lab that has much to do. */
		const timeouts = `[timeouts]\n"io.containerd.timeout.shim.cleanup" = "60s"\n`;
		const plugins = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]';
		const files = `root = "${HOME}/root"\nstate = "${HOME}/state"\n[grpc]\naddress = "${SOCKET}"\n`;
		writeFileSync(`${HOME}/config.toml`, `version = 2\n${plugins}\n${files}${timeouts}`);
		/* containerd's shim makes sockets in TMPDIR, which the host's files do not allow. */
		const own = { PATH: `${HOME}/bin:${process.env.PATH}`, DIR: `${HOME}/scratch`, TMPDIR: "/run" };
		const one = new Containerd({ ...process.env, ...own });
		await one.up();
		one.run(`ctr image import --snapshotter native ${HOME}/image.tar`);
		one.#image = one.run("ctr image ls -q").trim();
		return one;
	}

	/** Starts the daemon, or starts it anew. */
	async up(): Promise<void> {
		this.#daemon = spawn("containerd", ["-c", `${HOME}/config.toml`], { env: this.env, stdio: "ignore" });
		for (;;) {
			try {
				this.run("ctr version");
				return;
			} catch {
				await sleep(200);
			}
		}
	}

	/** Ends the daemon at once. */
	async down(): Promise<void> {
		const ended = new Promise((resolve) => this.#daemon?.once("exit", resolve));
		this.#daemon?.kill("SIGKILL");
		await ended;
	}

	/** A command line as the shell gets it. */
	script(line: string, runtime = ""): string {
		const how = `--runtime ${runtime} --snapshotter native`;
		return (PRELUDE + line)
			.replaceAll(/\bctr (?=[a-z])/g, `ctr -a ${SOCKET} `)
			.replaceAll(/( run| container create)(?= -| IMAGE)/g, runtime === "" ? "$1" : `$1 ${how}`)
			.replaceAll("IMAGE", this.#image);
	}

	/** Runs a command line that must succeed. @returns its output */
	run(line: string, runtime?: string): string {
		const stdio = ["ignore" as const, "pipe" as const, "pipe" as const];
		return execFileSync("/bin/sh", ["-c", this.script(line, runtime)], { env: this.env, encoding: "utf8", stdio });
	}
}

/** @param own a part of the command line of those who look */
export function leftovers(own: string): string[] {
	const processes = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
	const inside = (path: string) => (existsSync(path) ? readdirSync(path).map((name) => `${path}/${name}`) : []);
	return [
		...processes.filter((line) => /stand-in|shim|passt|tsvmm-oci/.test(line) && !line.includes(own)),
		...readFileSync("/proc/mounts", "utf8")
			.split("\n")
			.filter((line) => line.includes(`${HOME}/state`)),
		...inside("/run/tsvmm-shim/default"),
		...inside("/run/containerd/runc/default"),
		...inside(SHIMS),
		...inside(`${HOME}/state/io.containerd.runtime.v2.task/default`),
		...inside("/sys/fs/cgroup/default").filter((path) => existsSync(`${path}/cgroup.procs`)),
		...inside("/run/netns"),
	];
}

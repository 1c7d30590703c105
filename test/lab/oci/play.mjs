/*
 * In the lab: plays command lines with a runtime, and prints what each has answered, and what is left at the end. podman's
 * storage, networks and state are in the lab's RAM.
 *
 *     node play.mjs TABLE PROGRAM RUNTIME...       TABLE: a JSON file with { lines }
 */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const [table, program, ...runtimes] = process.argv.slice(2);
const { lines } = JSON.parse(readFileSync(table, "utf8"));
const home = "/run/oci-test";

/** What a machine has that runs podman. */
function prepare() {
	const shell = (script) => execFileSync("/bin/sh", ["-ec", script]);
	/* conmon makes a socket in /tmp, which the host's files do not allow. */
	shell("mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup");
	shell(
		"mount --make-rshared /; mkdir -p /run/host-tmp; mount --bind --make-private /tmp /run/host-tmp; mount -t tmpfs tmpfs /tmp",
	);
	/* What is played may be there itself. */
	for (const path of [dirname(dirname(program)), process.env.TSVMM_CACHE ?? ""].filter((one) =>
		one.startsWith("/tmp/"),
	))
		shell(`mkdir -p ${path}; mount --bind /run/host-tmp/${path.slice("/tmp/".length)} ${path}`);
	for (const path of ["bin", "pristine/bin", "pristine/tmp", "volumes/ro", "volumes/rw", "networks", "scratch"])
		mkdirSync(`${home}/${path}`, { recursive: true });
	const busybox = `${home}/pristine/bin/busybox`;
	copyFileSync("/usr/bin/busybox", busybox);
	for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n"))
		if (!existsSync(`${home}/pristine/bin/${applet}`)) symlinkSync("busybox", `${home}/pristine/bin/${applet}`);
	writeFileSync(`${home}/volumes/ro/file`, "read-only\n");
	writeFileSync(`${home}/volumes/input`, Buffer.alloc(300_000, "0123456789abcdef\n"));
	/* podman keeps only a few variables for its runtimes. */
	const words = `TSVMM_CACHE=${process.env.TSVMM_CACHE ?? ""} exec ${process.execPath} ${program} "$@"`;
	writeFileSync(`${home}/bin/tsvmm-oci`, `#!/bin/sh\n${words}\n`, { mode: 0o755 });
	const known = `[engine]\nruntime_supports_json = ["runc", "tsvmm-oci"]\n`;
	writeFileSync(`${home}/containers.conf`, `${known}[engine.runtimes]\ntsvmm-oci = ["${home}/bin/tsvmm-oci"]\n`);
}

function podman(runtime) {
	const storage = ["--root", `${home}/storage`, "--runroot", `${home}/runroot`, "--tmpdir", `${home}/tmp`];
	const host = ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--network-config-dir", `${home}/networks`];
	return ["podman", "--runtime", runtime, ...storage, ...host].join(" ");
}

/** What containers must not leave behind. */
function leftovers() {
	const processes = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
	return [
		...processes.filter((line) => /conmon|stand-in|supervise|exec-process|aardvark/.test(line)),
		...readFileSync("/proc/mounts", "utf8")
			.split("\n")
			.filter((line) => /oci-test|netns/.test(line)),
		...(existsSync("/run/tsvmm-oci") ? readdirSync("/run/tsvmm-oci") : []),
		...(existsSync("/run/netns") ? readdirSync("/run/netns") : []),
		...execFileSync("ip", ["-o", "link"], { encoding: "utf8" })
			.split("\n")
			.filter((line) => /veth|tsvmm/.test(line)),
	];
}

function play(runtime) {
	const env = {
		...{ PATH: process.env.PATH, XDG_RUNTIME_DIR: "/run", CONTAINERS_CONF: `${home}/containers.conf` },
		...{
			ROOT: `${home}/rootfs`,
			DIR: `${home}/volumes`,
			TSVMM_CACHE: process.env.TSVMM_CACHE,
			TMPDIR: `${home}/scratch`,
			HOME: process.env.HOME,
		},
	};
	/* What containers write to their root is there for the next one, but not for the other runtime. */
	execFileSync("/bin/sh", ["-ec", `rm -rf ${home}/rootfs; cp -a ${home}/pristine ${home}/rootfs`]);
	return lines.map((line) => {
		const startMs = Date.now();
		const script = line.replaceAll(/\bpodman (?=\w)/g, `${podman(runtime)} `);
		const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", script], { env, encoding: "utf8", input: "" });
		return { line, status, stdout, stderr, ms: Date.now() - startMs };
	});
}

prepare();
const answers = {};
for (const runtime of runtimes) answers[runtime] = { rows: play(runtime), left: leftovers() };
process.stdout.write(JSON.stringify(answers));

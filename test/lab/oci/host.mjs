/*
 * In the lab: what a machine has that runs podman, its files in RAM, and a root file system for containers.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Where all of it is. */
export const home = "/run/oci-test";

/** For `podman play kube`: one container reads a page of the other one. */
const POD = `
apiVersion: v1
kind: Pod
metadata:
  name: shop
spec:
  restartPolicy: Never
  containers:
  - name: server
    image: localhost/infra:1
    imagePullPolicy: Never
    command: ["/bin/sh", "-c", "echo page >/page; exec httpd -f -p 8080 -h /"]
  - name: client
    image: localhost/infra:1
    imagePullPolicy: Never
    command: ["/bin/sh", "-c", "until wget -qO- http://127.0.0.1:8080/page; do sleep 1; done; exec sleep 1000"]
`;

const shell = (script) => execFileSync("/bin/sh", ["-ec", script]);

/** What the command lines find in their environment. */
export function variables() {
	return {
		...{ PATH: process.env.PATH, HOME: process.env.HOME, XDG_RUNTIME_DIR: "/run" },
		...{ CONTAINERS_CONF: `${home}/containers.conf`, TMPDIR: `${home}/scratch` },
		...{
			ROOT: `${home}/rootfs`,
			DIR: `${home}/volumes`,
			BUNDLE: `${home}/bundle`,
			TSVMM_CACHE: process.env.TSVMM_CACHE,
		},
	};
}

/** @param program tsvmm-oci's own */
export function prepare(program) {
	/* conmon makes a socket in /tmp, which the host's files do not allow. */
	shell("mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup");
	shell(
		"mount --make-rshared /; mkdir -p /run/host-tmp; mount --bind --make-private /tmp /run/host-tmp; mount -t tmpfs tmpfs /tmp",
	);
	/* podman and its users have files in /etc. */
	shell("mkdir -p /run/etc; cp -a /etc/. /run/etc; mount --bind /run/etc /etc");
	/* What is played may be there itself. */
	const cache = process.env.TSVMM_CACHE ?? `${process.env.HOME}/.cache/tsvmm`;
	for (const path of [dirname(dirname(program)), cache].filter((one) => one.startsWith("/tmp/")))
		shell(`mkdir -p ${path}; mount --bind /run/host-tmp/${path.slice("/tmp/".length)} ${path}`);
	for (const path of ["bin", "networks", "scratch"]) mkdirSync(`${home}/${path}`, { recursive: true });
	writeRoot();
	writeFiles();
	writeBundle();
	writeRuntime(program);
}

/** busybox, and two users besides root. */
function writeRoot() {
	const root = `${home}/pristine`;
	for (const path of ["bin", "tmp", "etc"]) mkdirSync(`${root}/${path}`, { recursive: true });
	const busybox = `${root}/bin/busybox`;
	copyFileSync("/usr/bin/busybox", busybox);
	for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n"))
		if (!existsSync(`${root}/bin/${applet}`)) symlinkSync("busybox", `${root}/bin/${applet}`);
	writeFileSync(`${root}/etc/passwd`, "root:x:0:0:root:/root:/bin/sh\nmary:x:1500:1600:Mary:/home/mary:/bin/sh\n");
	writeFileSync(`${root}/etc/group`, "root:x:0:\nstaff:x:1600:\nextra:x:1700:mary\n");
}

function writeFiles() {
	for (const path of ["ro", "rw", "tree/sub"]) mkdirSync(`${home}/volumes/${path}`, { recursive: true });
	writeFileSync(`${home}/volumes/ro/file`, "read-only\n");
	writeFileSync(`${home}/volumes/input`, Buffer.alloc(300_000, "0123456789abcdef\n"));
	writeFileSync(`${home}/volumes/env`, "ONE=1\nTWO=two words\n# none\n");
	writeFileSync(`${home}/volumes/tree/one`, "one\n");
	writeFileSync(`${home}/volumes/tree/sub/two`, "two\n");
	symlinkSync("one", `${home}/volumes/tree/link`);
	writeFileSync(`${home}/volumes/pod.yaml`, POD);
}

/** For runc's own commands: what `runc spec` writes, without a terminal. */
function writeBundle() {
	mkdirSync(`${home}/bundle`);
	execFileSync("runc", ["spec", "--bundle", `${home}/bundle`]);
	const path = `${home}/bundle/config.json`;
	const config = JSON.parse(readFileSync(path, "utf8"));
	config.process.terminal = false;
	config.process.args = ["sh", "-c", "trap : HUP; echo ran; while :; do sleep 1; done"];
	config.root.path = `${home}/rootfs`;
	writeFileSync(path, JSON.stringify(config, undefined, "\t"));
}

function writeRuntime(program) {
	/* podman keeps only a few variables for its runtimes. */
	const words = `. ${home}/bin/environment; exec ${process.execPath} ${program} "$@"`;
	keepCache(process.env.TSVMM_CACHE ?? "");
	writeFileSync(`${home}/bin/tsvmm-oci`, `#!/bin/sh\n${words}\n`, { mode: 0o755 });
	const pods = `infra_image = "localhost/infra:1"\nimage_copy_tmp_dir = "${home}/scratch"\n`;
	const known = `[engine]\n${pods}runtime_supports_json = ["runc", "tsvmm-oci"]\n`;
	writeFileSync(`${home}/containers.conf`, `${known}[engine.runtimes]\ntsvmm-oci = ["${home}/bin/tsvmm-oci"]\n`);
}

/** @param directory the cache of those who run containers */
export function keepCache(directory) {
	writeFileSync(`${home}/bin/environment`, `export TSVMM_CACHE=${directory}\n`);
}

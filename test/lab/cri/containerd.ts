/*
 * In the lab: containerd with its CRI plugin, two runtime handlers ("runc" and "tsvmm"), a network for pods by CNI, and the
 * images that pods need. All of its files are in the lab's RAM.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const HOME = "/run/cri-test";
export const SOCKET = `${HOME}/containerd.sock`;
const CRI = 'plugins."io.containerd.grpc.v1.cri"';
const PAUSE = "docker.io/library/pause:test";

const CONFIG = `version = 2
root = "${HOME}/root"
state = "${HOME}/state"
[grpc]
address = "${SOCKET}"
[${CRI}]
sandbox_image = "${PAUSE}"
[${CRI}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${HOME}/cni"
[${CRI}.containerd]
snapshotter = "native"
default_runtime_name = "runc"
[${CRI}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[${CRI}.containerd.runtimes.tsvmm]
runtime_type = "io.containerd.tsvmm.v2"
pod_annotations = ["dev.tsvmm.*"]
privileged_without_host_devices = true
`;

export const GATEWAY = "10.99.0.1";
const NETWORK = {
	cniVersion: "0.4.0",
	name: "pods",
	plugins: [
		{
			...{ type: "bridge", bridge: "cri0", isGateway: true, ipMasq: true, hairpinMode: true },
			ipam: {
				...{ type: "host-local", dataDir: `${HOME}/addresses`, routes: [{ dst: "0.0.0.0/0" }] },
				ranges: [[{ subnet: "10.99.0.0/24" }]],
			},
		},
		{ type: "portmap", capabilities: { portMappings: true } },
	],
};

/** The archives of images that it begins with. */
export interface Images {
	/** What sandboxes run; an OCI layout. */
	pause: string;
	/** busybox, as `tsvmm save` writes it. */
	busybox: string;
}

/**
 * Starts containerd.
 *
 * @param shim path of ours
 * @returns what ends it
 */
export async function startContainerd(shim: string, { pause, busybox }: Images): Promise<() => void> {
	shell("mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup");
	/* CNI keeps what it has done in /var/lib/cni, and containerd its network namespaces in /var/run. */
	shell("mount -t tmpfs tmpfs /var; ln -s /run /var/run");
	for (const path of ["bin", "cni", "shared", "tmp"]) mkdirSync(`${HOME}/${path}`, { recursive: true });
	symlinkSync(shim, `${HOME}/bin/containerd-shim-tsvmm-v2`);
	writeFileSync(`${HOME}/config.toml`, CONFIG);
	writeFileSync(`${HOME}/cni/10-pods.conflist`, JSON.stringify(NETWORK));
	writeFileSync(`${HOME}/input`, "from the host\n");
	/* A shim makes a socket there, which the host's files do not allow. */
	const env = { ...process.env, TMPDIR: `${HOME}/tmp`, PATH: `${HOME}/bin:${process.env.PATH}` };
	const log = openSync(`${HOME}/containerd.log`, "a");
	const daemon = spawn("containerd", ["-c", `${HOME}/config.toml`], { env, stdio: ["ignore", log, log] });
	while (!existsSync(SOCKET)) await sleep(100);
	const load = `ctr -a ${SOCKET} -n k8s.io image import --snapshotter native`;
	shell(`${load} --index-name ${PAUSE} ${pause}; ${load} ${busybox}`);
	return () => daemon.kill();
}

const SHIM = /stand-in|containerd-shim|\bshim\b|passt/;

/** What pods must not leave behind. */
export function leftovers(): string[] {
	const inside = (path: string) => (existsSync(path) ? readdirSync(path) : []);
	return [
		...shell("ps -eo pid=,args=").filter((line) => SHIM.test(line) && Number.parseInt(line, 10) !== process.pid),
		...readFileSync("/proc/mounts", "utf8")
			.split("\n")
			.filter((line) => line.includes(`${HOME}/state`) || line.includes("netns")),
		...inside("/run/tsvmm-shim/k8s.io"),
		...inside("/run/containerd/s"),
		...inside("/run/netns"),
		...inside(`${HOME}/addresses/pods`).filter((name) => name.startsWith("10.")),
		...shell("ip -o link").filter((line) => /veth|tsvmm/.test(line)),
		/* A pod's own group is the kubelet's. */
		...shell("cd /sys/fs/cgroup/kubepods; find . -mindepth 2 -type d"),
		...shell("iptables-save -t nat").filter((line) => /CNI-(?:DN|SN)-/.test(line)),
	];
}

/** @returns the lines that it has printed */
function shell(script: string): string[] {
	return execFileSync("/bin/sh", ["-ec", script], { encoding: "utf8" })
		.trim()
		.split("\n")
		.filter((line) => line !== "");
}

/*
 * The life of two pods, step by step, each with what is compared of its answers.
 */
import { rmSync } from "node:fs";
import type { Usage } from "./client.ts";
import { GATEWAY, HOME } from "./containerd.ts";
import { failure, type Kubelet, OWN_PID } from "./kubelet.ts";
import { CHANNEL, stream } from "./streams.ts";

export interface Step {
	name: string;
	/** @returns what must be the same with each runtime */
	play(kubelet: Kubelet): Promise<unknown>;
}

const MIB = 1 << 20;
const MOUNTS = [
	{ container_path: "/shared", host_path: `${HOME}/shared` },
	{ container_path: "/input", host_path: `${HOME}/input`, readonly: true },
];
const SERVER = `
	trap 'echo bye; exit 5' TERM
	echo up; echo oops >&2; printf 'no newline'
	mkdir /www; echo page >/www/page
	httpd -p 127.0.0.1:8081 -h /www; httpd -p 8080 -h /www
	while :; do sleep 1000 & wait; done`;

const READER = `while read -r line; do echo "got $line"; done`;

/** As a kubelet asks for a pod with shareProcessNamespace. */
const SHARED_PID = { security_context: { namespace_options: { pid: "POD" } } };

const shell = (script: string) => ({ command: ["sh", "-c", script] });

/** In the container "web" or "client". */
const execs = (
	[
		["web", "hostname; cat /proc/1/comm; echo $A; id -u; pwd"],
		["web", "cat /etc/resolv.conf /etc/hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"],
		["web", "echo 1 >/shared/one; cat /input; touch /input; echo err >&2; exit 7"],
		["client", 'id; pwd; touch /x; cat /shared/one; grep -E "Cap(Prm|Eff|Bnd|Amb)|NoNew" /proc/self/status'],
		["client", "ls /dev | grep -v core; stat -c %a /dev/shm; cat /sys/fs/cgroup/memory.max"],
		["client", "wget -q -O - http://127.0.0.1:8081/page"],
	] as const
).map(([where, script]) => ({
	name: `ExecSync in ${where}: ${script}`,
	play: (kubelet: Kubelet) => kubelet.exec(where, "sh", "-c", script),
}));

export const STEPS: readonly Step[] = [
	{
		name: "Status",
		play: async ({ cri }) => (await cri.Status({})).status.conditions,
	},
	{
		name: "RunPodSandbox",
		play: async (kubelet) => {
			await kubelet.runPod("web", {
				dns_config: { servers: ["10.1.2.3"], searches: ["a.test"], options: ["ndots:2"] },
				port_mappings: [{ container_port: 8080, host_port: 8088 }],
				linux: { sysctls: { "net.ipv4.ip_unprivileged_port_start": "80" } },
			});
			const { state, network } = (await kubelet.cri.PodSandboxStatus(kubelet.pod("web"))).status;
			return { state, ip: network.ip.replace(/\d+$/, "N") };
		},
	},
	{
		name: "CreateContainer and StartContainer",
		play: async (kubelet) => {
			await kubelet.start("web", "web", { ...shell(SERVER), mounts: MOUNTS, envs: [{ key: "A", value: "b" }] });
			const security_context = {
				...{ ...OWN_PID, run_as_user: { value: 1000 }, run_as_group: { value: 1000 }, supplemental_groups: [7] },
				...{ readonly_rootfs: true, no_new_privs: true },
				capabilities: { drop_capabilities: ["ALL"], add_capabilities: ["NET_RAW"] },
			};
			const resources = { memory_limit_in_bytes: 64 * MIB };
			await kubelet.start("web", "client", {
				...{ ...shell(READER), working_dir: "/tmp", mounts: MOUNTS, stdin: true },
				linux: { security_context, resources },
			});
			return kubelet.list();
		},
	},
	...execs,
	{
		name: "ExecSync of a program that is missing",
		play: (kubelet) => failure(kubelet.exec("web", "nosuch")),
	},
	{
		name: "ExecSync that takes too long",
		play: (kubelet) =>
			failure(kubelet.cri.ExecSync({ ...kubelet.container("web"), cmd: ["sleep", "100"], timeout: 2 })),
	},
	{
		name: "Exec: its streams and its exit status",
		play: async (kubelet) => {
			const cmd = ["sh", "-c", "read -r line; echo got $line; echo err >&2; exit 7"];
			const { url } = await kubelet.cri.Exec({
				...{ ...kubelet.container("web"), cmd },
				...{ stdin: true, stdout: true, stderr: true },
			});
			return stream(url, [[CHANNEL.stdin, "a line\n"]]);
		},
	},
	{
		name: "Exec with a terminal, and its size",
		play: async (kubelet) => {
			const cmd = ["sh", "-c", "read -r _; for _ in $(seq 50); do stty size | grep '^41' && exit; sleep 0.1; done"];
			const streams = { stdin: true, stdout: true, tty: true };
			const { url } = await kubelet.cri.Exec({ ...kubelet.container("web"), cmd, ...streams });
			const size = JSON.stringify({ Width: 101, Height: 41 });
			/* The two have ways of their own to the process. */
			const messages = [
				[CHANNEL.resize, size],
				[CHANNEL.stdin, "now\n"],
			] as const;
			return (await stream(url, messages))[CHANNEL.stdout];
		},
	},
	{
		name: "Attach",
		play: async (kubelet) => {
			const { url } = await kubelet.cri.Attach({
				...kubelet.container("client"),
				stdin: true,
				stdout: true,
				stderr: true,
			});
			const found = await stream(url, [[CHANNEL.stdin, "hello\n"]], [CHANNEL.stdout, "hello"]);
			return found[CHANNEL.stdout];
		},
	},
	{
		name: "PortForward to a program that listens on the pod's loopback alone",
		play: async (kubelet) => {
			const { url } = await kubelet.cri.PortForward({ ...kubelet.pod("web"), port: [8081] });
			/* Channel 0 has the data, and 1 errors; each begins with the port. */
			const found = await stream(url, [[0, "GET /page HTTP/1.0\r\n\r\n"]], [0, "page\n"]);
			return [found[0]!.slice(0, 2), found[0]!.slice(-5), found[1]];
		},
	},
	{
		name: "PortForward to a port at which nobody listens tells an error",
		play: async (kubelet) => {
			const { url } = await kubelet.cri.PortForward({ ...kubelet.pod("web"), port: [9] });
			const found = await stream(url, [[0, "GET /\r\n"]]);
			return [found[0], found[1]!.slice(0, 2), found[1]!.length > 2];
		},
	},
	{ name: "the log", play: async (kubelet) => kubelet.log("web") },
	{
		name: "from the host to the pod, by its address and by its port of the host",
		play: async (kubelet) => [
			await fetchText(`http://${await kubelet.address("web")}:8080/page`),
			await fetchText(`http://${GATEWAY}:8088/page`),
		],
	},
	{
		name: "from pod to pod; the containers of the second have its pid namespace",
		play: async (kubelet) => {
			await kubelet.runPod("other", { linux: SHARED_PID });
			const script = `cat /proc/1/comm; wget -q -O - http://${await kubelet.address("web")}:8080/page`;
			await kubelet.start("other", "peer", { ...shell(script), linux: SHARED_PID });
			return [await kubelet.end("peer"), kubelet.log("peer")];
		},
	},
	{
		name: "ContainerStats, ListContainerStats",
		play: async (kubelet) => ({
			limited: kindsOf((await kubelet.cri.ContainerStats(kubelet.container("client"))).stats),
			number: (await kubelet.cri.ListContainerStats({})).stats.length,
		}),
	},
	{
		name: "PodSandboxStats counts what the pod takes of the host",
		play: async (kubelet) => {
			const { linux } = (await kubelet.cri.PodSandboxStats(kubelet.pod("web"))).stats;
			const { name, rx_bytes } = linux.network!.default_interface;
			const containers = Object.fromEntries(
				linux.containers.map(({ attributes, ...usage }) => [attributes.metadata.name, kindsOf(usage)]),
			);
			return { ...kindsOf(linux), containers, name, received: isPositive(rx_bytes) };
		},
	},
	{
		name: "UpdateContainerResources",
		play: async (kubelet) => {
			await kubelet.cri.UpdateContainerResources({
				...kubelet.container("client"),
				linux: { memory_limit_in_bytes: 100 * MIB },
			});
			return kubelet.exec("client", "cat", "/sys/fs/cgroup/memory.max");
		},
	},
	{
		name: "ReopenContainerLog, and StopContainer of a program that handles SIGTERM",
		play: async (kubelet) => {
			rmSync(`${HOME}/logs/web.log`);
			await kubelet.cri.ReopenContainerLog(kubelet.container("web"));
			await kubelet.cri.StopContainer({ ...kubelet.container("web"), timeout: 30 });
			return [await kubelet.status("web"), kubelet.log("web")];
		},
	},
	{
		name: "StopContainer of a program that does not",
		play: async (kubelet) => {
			await kubelet.cri.StopContainer({ ...kubelet.container("client"), timeout: 1 });
			return kubelet.status("client");
		},
	},
	{
		name: "StartContainer of a program that is missing",
		play: async (kubelet) => [
			await failure(kubelet.start("other", "missing", { command: ["/no/such"] })),
			await kubelet.status("missing"),
		],
	},
	{
		name: "a container that takes more memory than its limit",
		play: async (kubelet) => {
			const resources = { memory_limit_in_bytes: 32 * MIB };
			const command = ["awk", 'BEGIN { s = "x"; while (1) s = s s }'];
			await kubelet.start("other", "greedy", { command, linux: { ...SHARED_PID, resources } });
			return kubelet.end("greedy");
		},
	},
	{
		name: "RemoveContainer",
		play: async (kubelet) => {
			await kubelet.cri.RemoveContainer(kubelet.container("web"));
			return kubelet.list();
		},
	},
	{
		name: "StopPodSandbox",
		play: async (kubelet) => {
			await kubelet.cri.StopPodSandbox(kubelet.pod("web"));
			return (await kubelet.cri.PodSandboxStatus(kubelet.pod("web"))).status.state;
		},
	},
	{
		name: "RemovePodSandbox",
		play: async (kubelet) => {
			const { cri } = kubelet;
			for (const name of ["web", "other"]) {
				await cri.StopPodSandbox(kubelet.pod(name));
				await cri.RemovePodSandbox(kubelet.pod(name));
			}
			return [await kubelet.list(), (await cri.ListPodSandbox({})).items];
		},
	},
];

async function fetchText(url: string): Promise<string> {
	const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
	return answer.text();
}

const isPositive = (value: { value: number } | null) => value !== null && value.value > 0;

/** Whether usage is told at all, and what a limit leaves. */
function kindsOf({ cpu, memory }: Usage): object {
	const { working_set_bytes, usage_bytes, rss_bytes, available_bytes } = memory!;
	const available = available_bytes!.value;
	return {
		told: [cpu!.usage_core_nano_seconds, working_set_bytes, usage_bytes, rss_bytes].map(isPositive),
		available: available === 0 ? "no limit" : available < 64 * MIB ? "some" : available,
	};
}

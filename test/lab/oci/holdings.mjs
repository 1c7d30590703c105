/*
 * In the lab: what containers hold of their host at a moment, as numbers that are the same with any runtime: a process
 * that conmon waits for, a state directory, mounts, network namespaces, interfaces, control groups. A machine's process,
 * which runc does not have, is counted when it has no container.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { home } from "./host.mjs";

/** Of root and of a user. */
const STATES = ["/run/runc", "/run/tsvmm-oci", "/run/user/1500/runc", "/run/user/1500/tsvmm-oci"];
const SETTLE_MS = 30_000;
const POLL_MS = 200;

/** @returns of each process of the host: number, parent, command line */
function processes() {
	return readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.flatMap((pid) => {
			try {
				const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
				const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
				const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
				return state === "Z" ? [] : [{ pid, parent, args }];
			} catch {
				/* It has just ended. */
				return [];
			}
		});
}

const inside = (path) => (existsSync(path) ? readdirSync(path) : []);
const isMonitor = ({ args }) => /^\S*conmon /.test(args);
const isMachine = ({ args }) => / supervise /.test(args);

/** After a container's end conmon starts podman once more, which cleans up. This waits for it. */
export function settle() {
	const until = Date.now() + SETTLE_MS;
	while (Date.now() < until && processes().some(({ args }) => / container cleanup /.test(args)))
		Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
}

export function holdings() {
	const all = processes();
	const monitors = new Set(all.filter(isMonitor).map(({ pid }) => pid));
	const states = STATES.flatMap(inside);
	const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
	const groups = ["libpod_parent", "machine.slice"].flatMap((name) => inside(`/sys/fs/cgroup/${name}`));
	return {
		processes: all.filter((one) => monitors.has(one.parent) && !isMachine(one)).length,
		machinesWithoutContainer: all.filter((one) => isMachine(one) && !states.some((id) => one.args.includes(id))).length,
		states: states.length,
		mounts: mounts.filter((line) => line.includes(home)).length,
		networkNamespaces: inside("/run/netns").length,
		interfaces: readdirSync("/sys/class/net").filter((name) => /^(?:veth|tsvmm)/.test(name)).length,
		nameServers: all.filter(({ args }) => /aardvark-dns/.test(args)).length,
		groups: groups.filter((name) => /^libpod-[0-9a-f]{64}(?:\.scope)?$/.test(name)).length,
	};
}

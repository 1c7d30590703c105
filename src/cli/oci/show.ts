/*
 * state, list, ps, events, features: what the runtime tells of its containers and of itself.
 */
import { userInfo } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient } from "../../agent/client.ts";
import { containerUsage } from "../../container/usage.ts";
import { connectTo } from "../../host/request-socket.ts";
import { runTool } from "../../oci/group.ts";
import { OciError } from "../../oci/runtime-error.ts";
import { type ContainerRecord, checkId, listContainers, OCI_VERSION, OciContainer } from "../../oci/state.ts";

/** What ps prints of a container without any. */
const NO_PROCESSES = "UID        PID  PPID  C STIME TTY          TIME CMD\n";
const PS = ["ps", "-o", "user,pid,ppid,tty,args"];

/** The state of a container as runc prints it. */
function stateOf(record: ContainerRecord): object {
	const { id, status, bundle, rootfs, created, annotations } = record;
	return {
		ociVersion: OCI_VERSION,
		id,
		pid: pidOf(record),
		status,
		bundle,
		rootfs,
		created,
		...(Object.keys(annotations).length === 0 ? {} : { annotations }),
		owner: "",
	};
}

function pidOf({ status, process }: ContainerRecord): number {
	return status === "stopped" ? 0 : process.pid;
}

export function printState(id: string, root: string): void {
	const record = new OciContainer(root, checkId(id)).read();
	process.stdout.write(`${JSON.stringify(stateOf(record), undefined, 2)}`);
}

export function printList(root: string, { format, quiet }: { format: string; quiet: boolean }): void {
	const records = listContainers(root);
	if (quiet) {
		for (const { id } of records) process.stdout.write(`${id}\n`);
		return;
	}
	const states = records.map((record) => ({ ...stateOf(record), owner: userInfo().username }));
	if (format === "json") {
		process.stdout.write(JSON.stringify(states));
		return;
	}
	if (format !== "table") throw new OciError("ERR_OCI_FORMAT", `invalid format option`);
	const rows = records.map((record) => [
		record.id,
		`${pidOf(record)}`,
		record.status,
		record.bundle,
		record.created,
		userInfo().username,
	]);
	process.stdout.write(table([["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], ...rows]));
}

/** Columns as Go's tabwriter makes them for runc: at least 12 wide, with a blank between. */
function table(rows: readonly (readonly string[])[]): string {
	const widths = rows[0]!.map((_, i) => Math.max(11, ...rows.map((row) => row[i]!.length)) + 1);
	return rows
		.map((row) => `${row.map((cell, i) => (i < row.length - 1 ? cell.padEnd(widths[i]!) : cell)).join("")}\n`)
		.join("");
}

/** The agent of a container's machine. The caller closes it. */
async function agentOf(container: OciContainer): Promise<AgentClient> {
	const { sandbox } = container.read();
	const socket = await connectTo(container.sibling(sandbox).agent);
	if (socket === undefined) throw new OciError("ERR_OCI_STOPPED", "container not running");
	const client = new AgentClient(socket);
	await client.hello();
	return client;
}

/** The processes of a container: those of the guest as a table, and as JSON the one that the host knows. */
export async function printProcesses(id: string, root: string, format: string): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	const record = container.read();
	if (record.status === "stopped") {
		process.stdout.write(format === "json" ? "null\n" : NO_PROCESSES);
		return;
	}
	if (format === "json") {
		process.stdout.write(`${JSON.stringify([pidOf(record)])}\n`);
		return;
	}
	const client = await agentOf(container);
	try {
		const listed = await runTool(client, PS, container.agentName);
		/* The tool itself is one of them. */
		const lines = listed.split("\n").filter((line) => !line.includes(PS.join(" ")));
		process.stdout.write(lines.join("\n"));
	} finally {
		client.close();
	}
}

/** What a container uses, once or every so often until it has ended. */
export async function printEvents(
	id: string,
	root: string,
	{ stats, intervalMs }: { stats: boolean; intervalMs: number },
): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	if (container.read().status === "stopped")
		throw new OciError("ERR_OCI_STOPPED", `container with id ${id} is not running`);
	const client = await agentOf(container);
	try {
		for (;;) {
			process.stdout.write(`${JSON.stringify(await statsOf(client, container))}\n`);
			if (stats) return;
			const ended = await Promise.race([client.closed.then(() => true), sleep(intervalMs, false)]);
			if (ended || container.read().status === "stopped") return;
		}
	} finally {
		client.close();
	}
}

async function statsOf(client: AgentClient, container: OciContainer): Promise<object> {
	const used = await containerUsage(client, container.agentName);
	return {
		type: "stats",
		id: container.id,
		data: {
			cpu: { usage: { total: used.cpuUs * 1000, kernel: 0, user: 0 }, throttling: {} },
			memory: { usage: { limit: used.memoryLimitBytes ?? 0, usage: used.memoryBytes, failcnt: 0 }, raw: {} },
			pids: { current: used.pids, ...(used.pidsLimit === undefined ? {} : { limit: used.pidsLimit }) },
			blkio: {},
			hugetlb: {},
			intel_rdt: {},
			network_interfaces: null,
		},
	};
}

/** Features.md of the runtime-spec. */
export function printFeatures(): void {
	const features = {
		ociVersionMin: "1.0.0",
		ociVersionMax: OCI_VERSION,
		hooks: ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
		mountOptions: [
			...["bind", "defaults", "dev", "exec", "noatime", "nodev", "nodiratime", "noexec", "nosuid", "private"],
			...["rbind", "relatime", "ro", "rprivate", "rw", "strictatime", "suid", "tmpcopyup"],
		],
		linux: {
			namespaces: ["cgroup", "ipc", "mount", "network", "pid", "uts"],
			cgroup: { v1: true, v2: true, systemd: true, systemdUser: true },
			seccomp: { enabled: true },
			apparmor: { enabled: false },
			selinux: { enabled: false },
		},
	};
	process.stdout.write(`${JSON.stringify(features, undefined, 4)}\n`);
}

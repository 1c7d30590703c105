/*
 * What a container uses, as `stats` and `top` show it: files of its control group and of /proc, which a tool of the
 * agent's reads in the agent's own root (docs/agent.md, "Control groups"). The container need not have a program for it.
 */
import type { AgentClient } from "../agent/client.ts";
import { readText } from "../agent/read-text.ts";
import { CGROUP } from "./setup-steps.ts";

/** A value that the guest's kernel does not have is 0, or missing where that would mean something. */
export interface ContainerUsage {
	/** Processes and threads, and how many there may be. */
	pids: number;
	pidsLimit?: number;
	/** RAM that cannot be given up at once, as `docker stats` counts it, and its limit. */
	memoryBytes: number;
	memoryLimitBytes?: number;
	/** Processor time since the container's start, in µs. */
	cpuUs: number;
	/** Of disks. */
	readBytes: number;
	writtenBytes: number;
	/** Of all interfaces besides loopback. */
	receivedBytes: number;
	sentBytes: number;
}

const groupOf = (cgroup: string) => `/sys/fs/cgroup/${cgroup}`;
const FILES = ["pids.current", "pids.max", "memory.current", "memory.max", "memory.stat", "cpu.stat", "io.stat"];
const INTERFACES = "/proc/net/dev";

/**
 * Asks the agent of a container's machine.
 *
 * @param cgroup the container's control group
 * @throws ExecError when the agent has no busybox; what AgentClient.exec throws
 */
export async function containerUsage(agent: Pick<AgentClient, "exec">, cgroup = CGROUP): Promise<ContainerUsage> {
	return parseUsage(await readLines(agent, [...FILES.map((name) => `${groupOf(cgroup)}/${name}`), INTERFACES]), cgroup);
}

/** "PATH:LINE" for every line of the files that are there, in the agent's own root. @throws as `containerUsage` */
export async function readLines(agent: Pick<AgentClient, "exec">, paths: readonly string[]): Promise<string> {
	const session = await agent.exec({ tool: "busybox", args: ["grep", "-H", "", ...paths], stdin: "null" });
	session.stderr.resume();
	const output = await readText(session.stdout);
	await session.exit;
	return output;
}

/** @param output "PATH:LINE" for every line of the files */
export function parseUsage(output: string, cgroup = CGROUP): ContainerUsage {
	const files = new Map<string, string[]>();
	for (const line of output.split("\n")) {
		const [, path, content] = /^([^:]+):(.*)$/.exec(line) ?? [];
		if (path === undefined || content === undefined) continue;
		files.set(path, [...(files.get(path) ?? []), content]);
	}
	const lines = (name: string) => files.get(`${groupOf(cgroup)}/${name}`) ?? [];
	const limit = (name: string) => finite(lines(name)[0]);
	const [pidsLimit, memoryLimitBytes] = [limit("pids.max"), limit("memory.max")];
	const inactive = keyed(lines("memory.stat"), "inactive_file");
	const links = (files.get(INTERFACES) ?? []).map((line) => line.trim().split(/[:\s]+/));
	const outside = links.filter(([name]) => name !== "lo");
	return {
		pids: limit("pids.current") ?? 0,
		...(pidsLimit === undefined ? {} : { pidsLimit }),
		memoryBytes: Math.max(0, (limit("memory.current") ?? 0) - inactive),
		...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
		cpuUs: keyed(lines("cpu.stat"), "usage_usec"),
		readBytes: sum(lines("io.stat"), /\brbytes=(\d+)/),
		writtenBytes: sum(lines("io.stat"), /\bwbytes=(\d+)/),
		receivedBytes: total(outside.map((fields) => fields[1])),
		sentBytes: total(outside.map((fields) => fields[9])),
	};
}

/** Undefined for "max" and for what is not there. */
function finite(value: string | undefined): number | undefined {
	return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined;
}

/** The value of a line "KEY VALUE". */
function keyed(lines: readonly string[], key: string): number {
	const line = lines.find((one) => one.startsWith(`${key} `));
	return finite(line?.slice(key.length + 1)) ?? 0;
}

function sum(lines: readonly string[], pattern: RegExp): number {
	return total(lines.map((line) => pattern.exec(line)?.[1]));
}

function total(values: readonly (string | undefined)[]): number {
	return values.reduce((all, value) => all + (finite(value) ?? 0), 0);
}

/*
 * What a container uses, in the form of containerd's metrics: the files of its control group in the guest, name by name.
 */
import type { AgentClient } from "../agent/client.ts";
import { readLines } from "../container/usage.ts";
import { encode, fieldsOf, MAX_UINT64, type Message } from "./messages.ts";

const FILES = [
	...["pids.current", "pids.max", "cpu.stat", "memory.stat", "memory.events", "memory.current", "memory.max"],
	...["memory.swap.current", "memory.swap.max"],
];

/** A counter; a limit that is none. */
type Count = number | typeof MAX_UINT64;

/** @returns the fields of an Any. @throws what AgentClient.exec throws */
export async function metricsOf(client: Pick<AgentClient, "exec">, group: string): Promise<Message> {
	const directory = `/sys/fs/cgroup/${group}`;
	const lines = await readLines(
		client,
		FILES.map((name) => `${directory}/${name}`),
	);
	return { type_url: "io.containerd.cgroups.v2.Metrics", value: encode("Metrics", parseMetrics(lines, directory)) };
}

/**
 * A counter that the guest's kernel does not have is 0. What a hostile guest makes up is a wrong number at most.
 *
 * @param output "PATH:LINE" for every line of the files
 */
export function parseMetrics(output: string, directory: string): Message {
	const counts = new Map<string, Count>();
	for (const line of output.split("\n")) {
		const [, path = "", key = "", value = ""] = /^([^:]+):(?:(\w+) )?(max|\d+)$/.exec(line) ?? [];
		if (path.startsWith(`${directory}/`)) counts.set(`${path.slice(directory.length + 1)} ${key}`, countOf(value));
	}
	const file = (name: string) => counts.get(`${name} `) ?? 0;
	const keys = (name: string, message: string) =>
		Object.fromEntries(fieldsOf(message).map((field) => [field, counts.get(`${name} ${field}`) ?? 0]));
	return {
		pids: { current: file("pids.current"), limit: file("pids.max") },
		cpu: keys("cpu.stat", "CPUStat"),
		memory: {
			...keys("memory.stat", "MemoryStat"),
			...{ usage: file("memory.current"), usage_limit: file("memory.max") },
			...{ swap_usage: file("memory.swap.current"), swap_limit: file("memory.swap.max") },
		},
		memory_events: keys("memory.events", "MemoryEvents"),
	};
}

/** Beyond what a number holds exactly, nothing is counted. */
function countOf(value: string): Count {
	return value === "max" || Number(value) > Number.MAX_SAFE_INTEGER ? MAX_UINT64 : Number(value);
}

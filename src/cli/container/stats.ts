/*
 * `tsvmm stats` and `tsvmm top`: what containers use, and which processes they have.
 */
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { HostError } from "../../base/errors.ts";
import { withRunningAgent } from "../../container/life/agent-access.ts";
import { agentName } from "../../container/life/config.ts";
import { askSupervisor, type GuestMemoryUse } from "../../container/life/control.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { type ContainerUsage, containerUsage } from "../../container/usage.ts";
import { FORMAT_HELP, formatRows, type Listing, type Row } from "../format.ts";
import { watchOutput } from "../output.ts";
import { binarySize, size } from "../units.ts";
import { whereContainersAre } from "./where.ts";

interface StatsFlags {
	all: boolean;
	format?: string;
	stream: boolean;
	trunc: boolean;
}

const PERIOD_MS = 1000;
/** Formats that ask the machine's balloon. */
const GUEST_WORDS = /json|Guest|GivenBack/;
/** Homes the cursor, and clears what is below it. */
const CLEAR = "\x1b[H\x1b[J";

const LISTING: Listing = {
	headings: {
		ID: "CONTAINER ID",
		CPUPerc: "CPU %",
		MemUsage: "MEM USAGE / LIMIT",
		MemPerc: "MEM %",
		NetIO: "NET I/O",
		BlockIO: "BLOCK I/O",
	},
	table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

export function statsCommand(): Command {
	return new Command("stats")
		.description("show what containers use, every second")
		.argument("[container...]", "all that run when missing")
		.option("-a, --all", "those that do not run, too", false)
		.option("--format <format>", FORMAT_HELP)
		.option("--no-stream", "once, and end")
		.option("--no-trunc", "whole IDs")
		.action((names: string[], flags: StatsFlags) => whereContainersAre(() => stats(names, flags)));
}

async function stats(names: string[], flags: StatsFlags): Promise<number> {
	watchOutput();
	const store = new ContainerStore();
	/* Those that were named must be there. */
	const named = names.map((name) => store.find(name));
	const chosen = () => {
		if (named.length > 0) return named;
		return store.list().filter((container) => flags.all || container.state().status === "running");
	};
	const withMemory = flags.format !== undefined && GUEST_WORDS.test(flags.format);
	let before = await sampleAll(chosen());
	while (process.stdout.writable) {
		await sleep(PERIOD_MS);
		const containers = chosen();
		const now = await sampleAll(containers, withMemory);
		const rows = containers.map((container) =>
			rowOf(container, now.get(container.id), before.get(container.id), flags.trunc),
		);
		const table = formatRows(rows, LISTING, flags.format);
		process.stdout.write(flags.stream && process.stdout.isTTY ? CLEAR + table : table);
		if (!flags.stream) break;
		before = now;
	}
	return 0;
}

/** What a container has used until a time. */
export interface Sample {
	usage: ContainerUsage;
	/** Of its machine, when that was asked for and the container has it alone. */
	memory?: GuestMemoryUse | undefined;
	timeMs: number;
}

/** Those that run; one that ends meanwhile is left out. */
async function sampleAll(containers: readonly StoredContainer[], withMemory = false): Promise<Map<string, Sample>> {
	const samples = new Map<string, Sample>();
	await Promise.all(
		containers.map(async (container) => {
			try {
				const usage = await withRunningAgent(container, ({ client }) =>
					containerUsage(client, agentName(container.config)),
				);
				const answer = withMemory ? await askSupervisor(container.paths, { do: "memory" }) : undefined;
				samples.set(container.id, { usage, memory: answer?.memory, timeMs: performance.now() });
			} catch {
				/* Its line has no numbers. */
			}
		}),
	);
	return samples;
}

/** Docker's fields; dashes for a container that does not run. */
export function rowOf(
	{ id, config }: Pick<StoredContainer, "id" | "config">,
	now: Sample | undefined,
	before: Sample | undefined,
	trunc: boolean,
): Row {
	const names = { ID: trunc ? id.slice(0, 12) : id, Container: id, Name: config.name };
	if (now === undefined) {
		const none = { MemUsage: "-- / --", NetIO: "-- / --", BlockIO: "-- / --" };
		return { ...names, CPUPerc: "--", ...none, MemPerc: "--", PIDs: "--", ...guestWords(undefined) };
	}
	const { usage, timeMs, memory } = now;
	const limit = usage.memoryLimitBytes ?? config.memoryMiB * 2 ** 20;
	const wallUs = (timeMs - (before?.timeMs ?? timeMs)) * 1000;
	const cpuUs = usage.cpuUs - (before?.usage.cpuUs ?? usage.cpuUs);
	const percent = (part: number, whole: number) => `${(whole > 0 ? (100 * part) / whole : 0).toFixed(2)}%`;
	return {
		...names,
		CPUPerc: percent(Math.max(0, cpuUs), wallUs),
		MemUsage: `${binarySize(usage.memoryBytes)} / ${binarySize(limit)}`,
		MemPerc: percent(usage.memoryBytes, limit),
		NetIO: `${size(usage.receivedBytes)} / ${size(usage.sentBytes)}`,
		BlockIO: `${size(usage.readBytes)} / ${size(usage.writtenBytes)}`,
		PIDs: `${usage.pids}`,
		...guestWords(memory),
	};
}

/** What Docker has no words for. */
function guestWords(memory: GuestMemoryUse | undefined): Row {
	const shown = (bytes: number | undefined) => (bytes === undefined ? "--" : binarySize(bytes));
	return {
		GuestFree: shown(memory?.freeBytes),
		GuestAvailable: shown(memory?.availableBytes),
		GivenBack: shown(memory?.givenBackBytes),
	};
}

export function topCommand(): Command {
	return new Command("top")
		.description("list the processes of a container")
		.argument("<container>")
		.argument(
			"[ps-options...]",
			"-o COLUMNS: of user, group, pid, ppid, pgid, tty, vsz, sid, stat, rss, nice, comm, args",
		)
		.passThroughOptions()
		.allowUnknownOption()
		.action((name: string, options: string[]) =>
			whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(await processesOf(new ContainerStore().find(name), options));
				return 0;
			}),
		);
}

const COLUMNS = "user,pid,ppid,stat,tty,args";

/** The output of ps, without the line of ps itself. The choices of a host's ps (-ef, aux) mean all processes. */
export async function processesOf(container: StoredContainer, options: readonly string[] = []): Promise<string> {
	const at = options.findIndex((word) => /^-[eAax]*o/.test(word));
	const columns = at < 0 ? COLUMNS : options[at]!.replace(/^-[eAax]*o/, "") || (options[at + 1] ?? COLUMNS);
	return await withRunningAgent(container, async ({ busybox }) => {
		const args = ["ps", "-o", columns];
		const session = await busybox(args);
		const [output, complaint, exit] = await Promise.all([text(session.stdout), text(session.stderr), session.exit]);
		if (!("code" in exit) || exit.code !== 0) {
			throw new HostError(
				"ERR_TOP",
				`Cannot list the processes of container ${container.shortId}: ${complaint.trim()}`,
			);
		}
		const lines = output.split("\n").filter((line) => !line.trimEnd().endsWith(args.join(" ")));
		return lines.join("\n");
	});
}

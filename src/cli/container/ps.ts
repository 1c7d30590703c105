/*
 * `tsvmm ps` and `tsvmm port`: what runs, in Docker's columns, and which ports of this machine lead to it.
 */
import { Command } from "commander";
import { explain, HostError, UsageError } from "../../base/errors.ts";
import { networkNames } from "../../container/life/config.ts";
import { ContainerStatus } from "../../container/life/state.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { listPods } from "../../container/pod/store.ts";
import { FORMAT_HELP, formatRows, type Listing, type Row } from "../format.ts";
import { watchOutput } from "../output.ts";
import { describeDuration, describePorts, describeState, hostAddress, shorten } from "./describe.ts";
import { whereContainersAre } from "./where.ts";

interface PsFlags {
	all: boolean;
	filter: string[];
	format?: string;
	last?: string;
	latest: boolean;
	pod: boolean;
	quiet: boolean;
	trunc: boolean;
}

const COMMAND_CHARACTERS = 20;

const LISTING: Listing = {
	headings: {
		ID: "CONTAINER ID",
		CreatedAt: "CREATED AT",
		RunningFor: "CREATED",
	},
	table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

const POD_LISTING: Listing = {
	headings: { ...LISTING.headings, Pod: "POD ID", PodName: "PODNAME" },
	table: `${LISTING.table}\t{{.Pod}}\t{{.PodName}}`,
};

export function psCommand(name = "ps"): Command {
	return new Command(name)
		.description("list containers")
		.option("-a, --all", "those that do not run, too", false)
		.option("-q, --quiet", "IDs alone", false)
		.option(
			"-f, --filter <name=value>",
			"id, name, label, status, exited, ancestor, network; may be repeated",
			append,
			[],
		)
		.option("--format <format>", FORMAT_HELP)
		.option("-n, --last <n>", "the newest n, running or not")
		.option("-l, --latest", "the newest alone, running or not", false)
		.option("-p, --pod", "the pods of containers, too", false)
		.option("--no-trunc", "whole IDs and commands")
		.action((flags: PsFlags) =>
			whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(ps(flags));
				return 0;
			}),
		);
}

function ps(flags: PsFlags): string {
	const filters = flags.filter.map(readFilter);
	const complain = (error: unknown) => process.stderr.write(`tsvmm: ${explain(error)}\n`);
	const newest = flags.latest ? 1 : flags.last === undefined ? undefined : readCount(flags.last);
	const all = flags.all || newest !== undefined || filters.some(({ key }) => key === "status" || key === "exited");
	const shown = new ContainerStore()
		.list(complain)
		.filter((container) => all || runs(container))
		.filter((container) => {
			const groups = new Map<string, boolean>();
			/* Several of one key: any of them; of different keys: all of them. */
			for (const { key, value } of filters) {
				groups.set(key, groups.get(key) === true || FILTERS[key]!(container, value));
			}
			return [...groups.values()].every(Boolean);
		})
		.slice(0, newest);
	const rows = shown.flatMap((container) => {
		try {
			return [rowOf(container, flags.trunc)];
		} catch (error) {
			complain(error);
			return [];
		}
	});
	if (flags.quiet) return rows.map(({ ID }) => `${ID}\n`).join("");
	return formatRows(rows, flags.pod ? POD_LISTING : LISTING, flags.format);
}

function runs(container: StoredContainer): boolean {
	try {
		return ["running", "paused", "restarting"].includes(container.state().status);
	} catch {
		return true; /* it is told of later */
	}
}

function rowOf(container: StoredContainer, trunc: boolean): Row {
	const { config } = container;
	const state = container.state();
	const command = config.process.args.join(" ");
	const running = state.status === "running" || state.status === "paused";
	return {
		ID: trunc ? container.shortId : container.id,
		Image: config.image.name,
		Command: `"${trunc ? shorten(command, COMMAND_CHARACTERS) : command}"`,
		CreatedAt: config.created,
		RunningFor: `${describeDuration(Math.max(0, Date.now() - Date.parse(config.created)))} ago`,
		State: state.status,
		Status: describeState(state),
		Ports: running ? describePorts(container.livePorts(), config.exposedPorts) : "",
		Names: config.name,
		Labels: Object.entries(config.labels)
			.map(([name, value]) => `${name}=${value}`)
			.join(","),
		Networks: networkNames(config).join(","),
		Pod: config.joins?.kind === "pod" ? config.joins.id.slice(0, 12) : "",
		PodName: podName(config.joins),
		Mounts: config.mounts.map(({ volume, source }) => volume ?? source).join(","),
		Label: (name: string) => config.labels[name] ?? "",
	};
}

function podName(joins: StoredContainer["config"]["joins"]): string {
	if (joins?.kind !== "pod") return "";
	return listPods().find(({ id }) => id === joins.id)?.config.name ?? "";
}

/** What `--filter` can ask of a container. */
const FILTERS: Record<string, (container: StoredContainer, value: string) => boolean> = {
	id: ({ id }, value) => id.startsWith(value),
	name: ({ config }, value) => matches(config.name, value),
	label: ({ config }, value) => {
		const at = value.indexOf("=");
		const found = config.labels[at < 0 ? value : value.slice(0, at)];
		return found !== undefined && (at < 0 || found === value.slice(at + 1));
	},
	status: (container, value) => container.state().status === value,
	health: (container, value) => (container.state().health?.status ?? "none") === value,
	exited: (container, value) => {
		const { status, exitCode } = container.state();
		return status === "exited" && exitCode === Number(value);
	},
	volume: ({ config }, value) =>
		config.mounts.some(({ volume, source, target }) => [volume, source, target].includes(value)),
	network: ({ config }, value) => networkNames(config).includes(value),
	pod: ({ config: { joins } }, value) =>
		joins?.kind === "pod" && (joins.id.startsWith(value) || podName(joins) === value),
	ancestor: ({ config: { image } }, value) =>
		[image.name, image.name.replace(/:latest$/, "")].includes(value.replace(/:latest$/, "")) ||
		image.id.replace("sha256:", "").startsWith(value.replace("sha256:", "")),
};

/** A regular expression, as Docker has it. */
function matches(name: string, value: string): boolean {
	try {
		return new RegExp(value).test(name);
	} catch {
		return name.includes(value);
	}
}

function readFilter(text: string): { key: string; value: string } {
	const at = text.indexOf("=");
	const key = at < 0 ? text : text.slice(0, at);
	const value = at < 0 ? "" : text.slice(at + 1);
	const known = FILTERS[key] !== undefined && value !== "";
	if (known && (key !== "status" || ContainerStatus.safeParse(value).success)) return { key, value };
	throw new UsageError("ERR_PS_FILTER", `Cannot filter containers by "${text}"`, {
		hint: `Write NAME=VALUE with ${Object.keys(FILTERS).join(", ")}; a status is ${ContainerStatus.options.join(", ")}`,
	});
}

function readCount(text: string): number | undefined {
	if (/^\d{1,9}$/.test(text)) return Number(text);
	if (text === "-1") return undefined;
	throw new UsageError("ERR_PS_FILTER", `Cannot list the newest "${text}" containers: a number is wanted`);
}

export function portCommand(): Command {
	return new Command("port")
		.description("list the published ports of a container, or where one of them is")
		.argument("<container>")
		.argument("[port]", "PORT[/PROTOCOL] in the container")
		.action((name: string, wanted: string | undefined) =>
			whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(ports(new ContainerStore().find(name), wanted));
				return 0;
			}),
		);
}

function ports(container: StoredContainer, wanted: string | undefined): string {
	const published = container.livePorts();
	if (wanted === undefined) {
		return published.map((port) => `${port.guestPort}/${port.protocol} -> ${hostAddress(port)}\n`).join("");
	}
	const name = wanted.includes("/") ? wanted : `${wanted}/tcp`;
	const found = published.filter((port) => `${port.guestPort}/${port.protocol}` === name);
	if (found.length > 0) return found.map((port) => `${hostAddress(port)}\n`).join("");
	throw new HostError(
		"ERR_CONTAINER_PORT",
		`Cannot find port ${name}: container ${container.shortId} does not publish it`,
	);
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

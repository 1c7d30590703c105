/*
 * `tsvmm events`: what happens to containers and pods, in Docker's lines, as it happens.
 */
import { once } from "node:events";
import { Command } from "commander";
import { UsageError } from "../../base/errors.ts";
import { type ContainerEvent, readEvents, timeOf } from "../../container/life/events.ts";
import { listPods } from "../../container/pod/store.ts";
import { FORMAT_HELP, formatRows, type Listing } from "../format.ts";
import { append } from "../options.ts";
import { watchOutput } from "../output.ts";
import { readTime } from "../time.ts";
import { whereContainersAre } from "./where.ts";

interface EventsFlags {
	filter: string[];
	format?: string;
	since?: string;
	until?: string;
}

export function eventsCommand(): Command {
	return new Command("events")
		.description("tell what happens to containers and pods, until it is interrupted")
		.option("-f, --filter <name=value>", "container, event, image, label, pod or type; may be repeated", append, [])
		.option("--format <format>", FORMAT_HELP)
		.option("--since <time>", "also what has happened since: RFC 3339, seconds since 1970, or as long ago as 10m")
		.option("--until <time>", "end with what is newer")
		.action((flags: EventsFlags) => {
			const filters = flags.filter.map(readFilter);
			const sinceMs = flags.since === undefined ? undefined : readTime(flags.since);
			const untilMs = flags.until === undefined ? undefined : readTime(flags.until);
			/* Throws before the first event for a template that is none. */
			formatRows([], LISTING, flags.format);
			return whereContainersAre(async () => {
				watchOutput();
				const output = process.stdout;
				for await (const event of readEvents({ sinceMs, untilMs, goesOn: () => output.writable })) {
					if (!passes(event, filters)) continue;
					if (!output.write(describeEvent(event, flags.format))) await once(output, "drain");
				}
				return 0;
			});
		});
}

const LISTING: Listing = { headings: {}, table: "" };

/** A line, as Docker writes it: attributes sorted, times with nanoseconds. */
export function describeEvent(event: ContainerEvent, format?: string): string {
	if (format !== undefined && format !== "") return formatRows([withGoNames(event)], LISTING, format);
	const { Type, Action, Actor } = event;
	const attributes = Object.entries(Actor.Attributes)
		.sort(([a], [b]) => (a < b ? -1 : 1))
		.map(([name, value]) => `${name}=${value}`);
	const time = new Date(timeOf(event)).toISOString().replace("Z", "000000Z");
	return `${time} ${Type} ${Action} ${Actor.ID} (${attributes.join(", ")})\n`;
}

/** With the names that templates use, which are not in its JSON. */
function withGoNames(event: ContainerEvent): Record<string, unknown> {
	const { status, id, from, scope, time, timeNano } = event;
	const names = { Status: status, ID: id, From: from, Scope: scope, Time: time, TimeNano: timeNano };
	return Object.defineProperties(
		{ ...event } as Record<string, unknown>,
		Object.fromEntries(Object.entries(names).map(([name, value]) => [name, { value }])),
	);
}

interface Filter {
	key: string;
	value: string;
}

/** Of one key any, of several keys all. */
function passes(event: ContainerEvent, filters: readonly Filter[]): boolean {
	return Object.entries(FILTERS).every(([key, fits]) => {
		const own = filters.filter((filter) => filter.key === key);
		return own.length === 0 || own.some(({ value }) => fits(event, value));
	});
}

const FILTERS: Record<string, (event: ContainerEvent, value: string) => boolean> = {
	container: ({ Type, Actor }, value) => Type === "container" && isNamed(Actor, value),
	event: ({ Action }, value) => Action === value || Action.startsWith(`${value}:`),
	image: ({ from }, value) => from.replace(/:latest$/, "") === value.replace(/:latest$/, ""),
	label: ({ Actor }, value) => {
		const at = value.indexOf("=");
		const found = Actor.Attributes[at < 0 ? value : value.slice(0, at)];
		return found !== undefined && (at < 0 || found === value.slice(at + 1));
	},
	/** The pod's own events and those of its containers, which know its ID alone. */
	pod: ({ Type, Actor }, value) =>
		Type === "pod" ? isNamed(Actor, value) : (Actor.Attributes.pod?.startsWith(podId(value)) ?? false),
	type: ({ Type }, value) => Type === value,
};

function isNamed({ ID, Attributes }: ContainerEvent["Actor"], value: string): boolean {
	return Attributes.name === value || ID.startsWith(value);
}

/** Of a pod by name; what is no pod's name is the beginning of an ID. */
function podId(value: string): string {
	return listPods().find(({ config }) => config.name === value)?.id ?? value;
}

function readFilter(text: string): Filter {
	const [, key, value] = /^([a-z]+)=(.+)$/s.exec(text) ?? [];
	if (key !== undefined && value !== undefined && Object.hasOwn(FILTERS, key)) return { key, value };
	throw new UsageError("ERR_FILTER", `Cannot filter events by "${text}"`, {
		hint: `Write NAME=VALUE with ${Object.keys(FILTERS).join(", ")}`,
	});
}

/*
 * `tsvmm volume`: directories that containers share and that outlive them, in Docker's columns.
 */
import { Command } from "commander";
import { ContainerStore } from "../container/life/store.ts";
import { type Volume, VolumeStore } from "../container/volume/store.ts";
import { whereContainersAre } from "./container/where.ts";
import { each } from "./each.ts";
import { FORMAT_HELP, formatRows, type Listing } from "./format.ts";
import { inspectEach } from "./inspect.ts";

const LISTING: Listing = {
	headings: { Name: "VOLUME NAME" },
	table: "{{.Driver}}\t{{.Name}}",
};

export function volumeCommand(): Command {
	const volume = new Command("volume").description("directories that containers share");
	volume
		.command("create")
		.description("make a volume, and print its name")
		.argument("[name]", "a random one when missing")
		.option("--label <name[=value]>", "set a label; may be repeated", append, [])
		.action((name: string | undefined, { label }: { label: string[] }) =>
			whereContainersAre(async () => {
				const labels = Object.fromEntries(
					label.map((text) => [text.split("=", 1)[0]!, text.split("=").slice(1).join("=")]),
				);
				process.stdout.write(`${(await new VolumeStore().create(name, labels)).name}\n`);
				return 0;
			}),
		);
	volume
		.command("ls")
		.alias("list")
		.description("list volumes")
		.option("-q, --quiet", "names alone", false)
		.option("--format <format>", FORMAT_HELP)
		.action(({ quiet, format }: { quiet: boolean; format?: string }) =>
			whereContainersAre(async () => {
				const volumes = new VolumeStore().list();
				const text = quiet
					? volumes.map(({ name }) => `${name}\n`).join("")
					: formatRows(volumes.map(rowOf), LISTING, format);
				process.stdout.write(text);
				return 0;
			}),
		);
	volume
		.command("inspect")
		.description("print what is known of volumes as JSON")
		.argument("<volume...>")
		.option("-f, --format <format>", FORMAT_HELP)
		.action((names: string[], { format }: { format?: string }) =>
			whereContainersAre(async () => {
				const store = new VolumeStore();
				return await inspectEach(names, (name) => describe(store.find(name)), format);
			}),
		);
	volume
		.command("rm")
		.description("remove volumes and all that is in them")
		.argument("<volume...>")
		.option("-f, --force", "one that is not there is no error", false)
		.action((names: string[], { force }: { force: boolean }) => whereContainersAre(() => remove(names, force)));
	volume
		.command("prune")
		.description("remove anonymous volumes that no container has")
		.option("-a, --all", "named ones, too", false)
		.option("-f, --force", "accepted for Docker's sake: nothing is asked", false)
		.action(({ all }: { all: boolean }) => whereContainersAre(() => prune(all)));
	return volume;
}

async function remove(names: readonly string[], force: boolean): Promise<number> {
	const store = new VolumeStore();
	const present = force ? names.filter((name) => store.list().some((volume) => volume.name === name)) : names;
	return await each(present, async (name) => {
		await store.remove(name, containersWith);
		process.stdout.write(`${name}\n`);
	});
}

async function prune(all: boolean): Promise<number> {
	const unused = new VolumeStore()
		.list()
		.filter(({ name, anonymous }) => (all || anonymous) && containersWith(name).length === 0);
	if (unused.length > 0) process.stdout.write("Deleted Volumes:\n");
	return await remove(
		unused.map(({ name }) => name),
		true,
	);
}

/** The containers that have a volume, running or not, by their short IDs. */
export function containersWith(volume: string): string[] {
	return new ContainerStore()
		.list()
		.filter(({ config }) => config.mounts.some((mount) => mount.volume === volume))
		.map(({ shortId }) => shortId);
}

function rowOf({ name, mountpoint, labels }: Volume) {
	return {
		Driver: "local",
		Name: name,
		Mountpoint: mountpoint,
		Scope: "local",
		Labels: Object.entries(labels)
			.map(([key, value]) => `${key}=${value}`)
			.join(","),
	};
}

function describe({ name, created, labels, mountpoint }: Volume) {
	return {
		CreatedAt: created,
		Driver: "local",
		Labels: labels,
		Mountpoint: mountpoint,
		Name: name,
		Options: {},
		Scope: "local",
	};
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

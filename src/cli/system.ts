/*
 * `tsvmm system df` and `system prune`: what images and containers take on this host's disk, and what nobody needs.
 */
import { lstatSync } from "node:fs";
import { Command } from "commander";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { removeContainer } from "../container/life/commands.ts";
import { ContainerStore, type StoredContainer } from "../container/life/store.ts";
import { whereContainersAre } from "./container/where.ts";
import { FORMAT_HELP, formatRows, type Listing, type Row } from "./format.ts";
import { agrees, usersOfImages } from "./image-names.ts";
import { watchOutput } from "./output.ts";
import { size } from "./units.ts";

export function systemCommand(): Command {
	return new Command("system")
		.description("what images and containers take on disk")
		.addCommand(dfCommand())
		.addCommand(pruneCommand());
}

const LISTING: Listing = {
	headings: { TotalCount: "TOTAL" },
	table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

function dfCommand(): Command {
	return new Command("df")
		.description("show what takes room on disk")
		.option("--format <format>", FORMAT_HELP)
		.action(({ format }: { format?: string }) =>
			whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(formatRows(usage(), LISTING, format));
				return 0;
			}),
		);
}

function usage(): Row[] {
	const users = usersOfImages();
	const images = new ImageStore().list();
	const layers = (chosen: readonly NamedImage[]) => {
		const blobs = new Map(chosen.flatMap((image) => image.layers.map(({ digest, sizeBytes }) => [digest, sizeBytes])));
		return [...blobs.values()].reduce((sum, bytes) => sum + bytes, 0);
	};
	const used = images.filter(({ digest }) => users.has(digest));
	const containers = new ContainerStore().list();
	const running = containers.filter((container) => container.isSupervised());
	const written = (chosen: readonly StoredContainer[]) => chosen.reduce((sum, one) => sum + writtenBytes(one), 0);
	const [all, inUse] = [layers(images), layers(used)];
	const [kept, live] = [written(containers), written(running)];
	return [
		{ Type: "Images", TotalCount: `${images.length}`, Active: `${used.length}`, ...sizes(all, inUse) },
		{ Type: "Containers", TotalCount: `${containers.length}`, Active: `${running.length}`, ...sizes(kept, live) },
	];
}

function sizes(bytes: number, needed: number): { Size: string; Reclaimable: string } {
	const free = bytes - needed;
	const percent = bytes === 0 ? "" : ` (${Math.floor((100 * free) / bytes)}%)`;
	return { Size: size(bytes), Reclaimable: `${size(free)}${percent}` };
}

/** What its sparse file takes. */
function writtenBytes({ paths }: StoredContainer): number {
	return (lstatSync(paths.writable, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

interface PruneFlags {
	all: boolean;
	force: boolean;
}

function pruneCommand(): Command {
	return new Command("prune")
		.description("remove containers that do not run, and images that no name stands for")
		.option("-a, --all", "all images that no container is made of", false)
		.option("-f, --force", "do not ask", false)
		.action((flags: PruneFlags) => whereContainersAre(() => prune(flags)));
}

async function prune({ all, force }: PruneFlags): Promise<number> {
	watchOutput();
	const images = all ? "all images without at least one container associated to them" : "all dangling images";
	const question = `WARNING! This will remove:
  - all stopped containers
  - ${images}

Are you sure you want to continue? [y/N] `;
	if (!force && !(await agrees(question))) return 0;
	const say = (lines: readonly string[]) => process.stdout.write(lines.map((line) => `${line}\n`).join(""));
	const store = new ContainerStore();
	await store.collectLeftovers();
	const ended = store.list().filter((container) => !container.isSupervised());
	let freedBytes = 0;
	if (ended.length > 0) say(["Deleted Containers:"]);
	for (const container of ended) {
		freedBytes += writtenBytes(container);
		await removeContainer(container);
		say([container.id]);
	}
	if (ended.length > 0) say([""]);
	const users = usersOfImages();
	const isUnwanted = ({ digest, names }: NamedImage) => !users.has(digest) && (all || names.length === 0);
	const pruned = await new ImageStore().prune(isUnwanted);
	if (pruned.report.length > 0) say(["Deleted Images:", ...pruned.report, ""]);
	say([`Total reclaimed space: ${size(freedBytes + pruned.freedBytes)}`]);
	return 0;
}

/*
 * `tsvmm system df` and `system prune`: what images, containers and templates take on this host's disk, and what nobody needs.
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { removeContainer } from "../container/life/commands.ts";
import { ContainerStore } from "../container/life/store.ts";
import { isOutdated, listTemplates, removeTemplate } from "../container/template/store.ts";
import { whereContainersAre } from "./container/where.ts";
import { details, templateBytes, totals, writtenBytes } from "./disk-usage.ts";
import { FORMAT_HELP } from "./format.ts";
import { agrees, usersOfImages } from "./image-names.ts";
import { watchOutput } from "./output.ts";
import { size } from "./units.ts";

export function systemCommand(): Command {
	return new Command("system")
		.description("what images and containers take on disk")
		.addCommand(dfCommand())
		.addCommand(pruneCommand());
}

function dfCommand(): Command {
	return new Command("df")
		.description("show what takes room on disk")
		.option("--format <format>", FORMAT_HELP)
		.option("-v, --verbose", "each image, container, volume and template by itself", false)
		.action(({ format, verbose }: { format?: string; verbose: boolean }) => {
			if (verbose && format !== undefined) {
				throw new UsageError("ERR_FORMAT", "Cannot use --format with -v: there are several tables");
			}
			return whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(await (verbose ? details() : totals(format)));
				return 0;
			});
		});
}

interface PruneFlags {
	all: boolean;
	force: boolean;
}

function pruneCommand(): Command {
	return new Command("prune")
		.description("remove containers that do not run, images that no name stands for, and old templates")
		.option("-a, --all", "all images that no container is made of, and all templates", false)
		.option("-f, --force", "do not ask", false)
		.action((flags: PruneFlags) => whereContainersAre(() => prune(flags)));
}

async function prune({ all, force }: PruneFlags): Promise<number> {
	watchOutput();
	const images = all ? "all images without at least one container associated to them" : "all dangling images";
	const templates = all ? "all templates" : "all templates of other versions of tsvmm";
	const question = `WARNING! This will remove:
  - all stopped containers
  - ${images}
  - ${templates}

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
	const unwanted = (await listTemplates()).filter((template) => all || isOutdated(template));
	for (const { path } of unwanted) removeTemplate(path);
	if (unwanted.length > 0) say(["Deleted Templates:", ...unwanted.map(({ key }) => key), ""]);
	freedBytes += pruned.freedBytes + templateBytes(unwanted);
	say([`Total reclaimed space: ${size(freedBytes)}`]);
	return 0;
}

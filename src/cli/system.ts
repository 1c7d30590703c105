/*
 * `tsvmm system df` and `system prune`: what images and containers take on this host's disk, and what nobody needs.
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { removeContainer } from "../container/life/commands.ts";
import { ContainerStore } from "../container/life/store.ts";
import { whereContainersAre } from "./container/where.ts";
import { details, totals, writtenBytes } from "./disk-usage.ts";
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
		.option("-v, --verbose", "each image, container and volume by itself", false)
		.action(({ format, verbose }: { format?: string; verbose: boolean }) => {
			if (verbose && format !== undefined) {
				throw new UsageError("ERR_FORMAT", "Cannot use --format with -v: there are three tables");
			}
			return whereContainersAre(async () => {
				watchOutput();
				process.stdout.write(verbose ? details() : totals(format));
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

/*
 * `tsvmm tag`, `rmi`, `history` and `image prune`: what needs no more than the store.
 */
import { createInterface } from "node:readline";
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import { historyOf } from "../container/image/describe.ts";
import { ImageStore, type NamedImage } from "../container/image/store.ts";
import { ContainerStore } from "../container/life/store.ts";
import { FORMAT_HELP, formatRows } from "./format.ts";
import { age, size, timestamp } from "./units.ts";

/** `tsvmm tag`, also `tsvmm image tag`. */
export function tagCommand(): Command {
	return new Command("tag")
		.description("give an image one more name")
		.argument("<image>", "name or ID")
		.argument("<name>", "NAME[:TAG]")
		.action((source: string, name: string) => new ImageStore().tag(source, name));
}

/** @param name "rmi", or "rm" below `tsvmm image` */
export function removeImagesCommand(name: "rmi" | "rm"): Command {
	return new Command(name)
		.description("remove images by name or ID")
		.argument("<image...>")
		.option("-f, --force", "also images of containers, which then cannot start again")
		.option("--no-prune", "accepted for Docker's sake: there are no parents to keep")
		.action(async (names: string[], { force }: { force?: boolean }) => {
			const store = new ImageStore();
			if (force !== true) checkUnused(store, names);
			print(await store.remove(names));
		});
}

/** By digest, the names of the containers of each image. */
export function usersOfImages(): Map<string, string[]> {
	const users = new Map<string, string[]>();
	for (const { config } of new ContainerStore().list()) {
		users.set(config.image.digest, [...(users.get(config.image.digest) ?? []), config.name]);
	}
	return users;
}

/** An image of a container may lose a name, but not its last one. */
function checkUnused(store: ImageStore, texts: readonly string[]): void {
	const users = usersOfImages();
	const all = store.list();
	for (const text of texts) {
		const { digest } = store.find(text);
		const [user] = users.get(digest) ?? [];
		const { names } = all.find((image) => image.digest === digest)!;
		const going = texts.filter((other) => store.isName(other) && store.find(other).digest === digest);
		if (user === undefined || (store.isName(text) && names.length > going.length)) continue;
		throw new UsageError("ERR_IMAGE_IN_USE", `Cannot remove image ${text}: container ${user} is made of it`, {
			hint: `Remove the container first (tsvmm rm ${user}), or use --force`,
		});
	}
}

interface HistoryFlags {
	format?: string;
	human: boolean;
	quiet?: boolean;
	trunc: boolean;
}

const HISTORY = {
	headings: { ID: "IMAGE", CreatedSince: "CREATED", CreatedAt: "CREATED AT", CreatedBy: "CREATED BY" },
	table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};
/** As in Docker. */
const CREATED_BY_CHARACTERS = 45;

/** `tsvmm history`, also `tsvmm image history`. */
export function historyCommand(): Command {
	return new Command("history")
		.description("show how an image came to be")
		.argument("<image>")
		.option("--format <format>", FORMAT_HELP)
		.option("-H, --human", "sizes and times for people", true)
		.option("--no-human", "bytes and dates")
		.option("-q, --quiet", "print IDs alone")
		.option("--no-trunc", "print commands and IDs in full")
		.action(historyAction);
}

async function historyAction(name: string, { format, human, quiet, trunc }: HistoryFlags): Promise<void> {
	const store = new ImageStore();
	const image = store.find(name);
	const steps = await historyOf(store, image);
	const rows = steps.map(({ created, createdBy, comment, sizeBytes }, i) => ({
		ID: i > 0 ? "<missing>" : trunc ? image.id.slice(7, 19) : image.id,
		CreatedSince: human ? age(created) : timestamp(created),
		CreatedAt: created ?? "N/A",
		CreatedBy: shorten(oneLine(createdBy), trunc ? CREATED_BY_CHARACTERS : undefined),
		Size: human ? size(sizeBytes) : String(sizeBytes),
		Comment: oneLine(comment),
	}));
	if (quiet === true && format === undefined) print(rows.map(({ ID }) => ID));
	else process.stdout.write(formatRows(rows, HISTORY, format));
}

/** A stranger's text within a table. */
function oneLine(text: string): string {
	return printable(text.replace(/[\t\n]/g, " "));
}

function shorten(text: string, most = Number.POSITIVE_INFINITY): string {
	return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/** `tsvmm image prune`. */
export function pruneImagesCommand(): Command {
	return new Command("prune")
		.description("remove images that no name stands for")
		.option("-a, --all", "all images that no container is made of")
		.option("-f, --force", "do not ask")
		.action(async ({ all, force }: { all?: boolean; force?: boolean }) => {
			const what =
				all === true ? "all images without at least one container associated to them" : "all dangling images";
			const question = `WARNING! This will remove ${what}.\nAre you sure you want to continue? [y/N] `;
			if (force !== true && !(await agrees(question))) return;
			const users = usersOfImages();
			const isUnwanted = ({ digest, names }: NamedImage) => !users.has(digest) && (all === true || names.length === 0);
			const { report, freedBytes } = await new ImageStore().prune(isUnwanted);
			if (report.length > 0) print(["Deleted Images:", ...report, ""]);
			print([`Total reclaimed space: ${size(freedBytes)}`]);
		});
}

/** Asks on standard output and reads a line of standard input, as Docker does: only "y" agrees. */
export async function agrees(question: string): Promise<boolean> {
	process.stdout.write(question);
	const lines = createInterface({ input: process.stdin });
	try {
		for await (const line of lines) return /^y(es)?$/i.test(line.trim());
		return false;
	} finally {
		lines.close();
	}
}

function print(lines: readonly string[]): void {
	if (lines.length > 0) process.stdout.write(`${lines.join("\n")}\n`);
}

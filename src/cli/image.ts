/*
 * `tsvmm image` imports, lists, inspects and removes images. Most of its commands are also commands of their own, as
 * with Docker: `tsvmm images` is `tsvmm image ls`.
 */
import { Command } from "commander";
import { ImageStore } from "../container/image/store.ts";
import { FORMAT_HELP } from "./format.ts";
import { imageListCommand } from "./image-list.ts";
import { historyCommand, pruneImagesCommand, removeImagesCommand, tagCommand } from "./image-names.ts";
import { inspectEach } from "./inspect.ts";
import { untilInterrupted } from "./interrupt.ts";
import { pullCommand, pushCommand } from "./pull.ts";
import { loadCommand, saveCommand } from "./save.ts";

export function imageCommand(): Command {
	const image = new Command("image").description("import, pull, list and remove container images");
	image.hook("preAction", () => new ImageStore().collectLeftovers());
	image
		.command("import")
		.description("import an OCI layout, a docker-archive or a root file system")
		.argument("<path>", "a directory, a tar (also with gzip, zstd or xz), or - for standard input")
		.argument("[name]", "NAME[:TAG]; the archive's own names when missing")
		.action(importAction);
	image
		.command("inspect")
		.description("print what is known of images as JSON")
		.argument("<image...>")
		.option("-f, --format <format>", FORMAT_HELP)
		.action(inspectAction);
	const others = [
		imageListCommand("ls"),
		removeImagesCommand("rm"),
		pruneImagesCommand(),
		tagCommand(),
		historyCommand(),
	];
	for (const command of [...others, pullCommand(), pushCommand(), saveCommand(), loadCommand()])
		image.addCommand(command);
	return image;
}

async function inspectAction(names: string[], { format }: { format?: string }): Promise<void> {
	const { describeImage } = await import("../container/image/describe.ts");
	const store = new ImageStore();
	const describe = (name: string) => {
		const { digest } = store.find(name);
		return describeImage(store, store.list().find((one) => one.digest === digest)!);
	};
	process.exitCode = await inspectEach(names, describe, format);
}

async function importAction(path: string, name: string | undefined): Promise<void> {
	/* Imported here, so that `image ls` does not load the schema library. */
	const { importImage } = await import("../container/image/import.ts");
	const source = path === "-" ? process.stdin : path;
	const work = (signal: AbortSignal) => importImage(new ImageStore(), source, { name, signal });
	const images = await untilInterrupted(`import ${path === "-" ? "standard input" : path}`, work);
	for (const { image, names } of images) {
		print((names.length > 0 ? names : [image.id]).map((one) => `Imported: ${one}`).join("\n"));
	}
}

function print(text: string): void {
	if (text !== "") process.stdout.write(`${text}\n`);
}

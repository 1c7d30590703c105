/*
 * `tsvmm image` imports, lists, inspects and removes images. Its output has Docker's columns.
 */
import { Command } from "commander";
import { ImageStore } from "../container/image/store.ts";
import { untilInterrupted } from "./interrupt.ts";
import { printJson } from "./output.ts";
import { pullCommand } from "./pull.ts";
import { age, size } from "./units.ts";

export function imageCommand(): Command {
	const image = new Command("image").description("import, list and remove container images");
	image.hook("preAction", () => new ImageStore().collectLeftovers());
	image
		.command("import")
		.description("import an OCI layout, a docker-archive or a root file system")
		.argument("<path>", "a directory, a tar (also with gzip, zstd or xz), or - for standard input")
		.argument("[name]", "NAME[:TAG]; the archive's own names when missing")
		.action(importAction);
	image
		.command("ls")
		.alias("list")
		.description("list images")
		.option("--json", "one JSON array with everything that is known")
		.action(({ json }: { json?: boolean }) => (json ? printJson(new ImageStore().list()) : print(table())));
	image
		.command("rm")
		.description("remove images by name or ID")
		.argument("<image...>")
		.action(async (names: string[]) => print((await new ImageStore().remove(names)).join("\n")));
	image
		.command("inspect")
		.description("print what is known of an image as JSON")
		.argument("<image...>")
		.action((names: string[]) => {
			const store = new ImageStore();
			const digests = names.map((name) => store.find(name).digest);
			const all = store.list();
			printJson(digests.map((digest) => all.find((one) => one.digest === digest)!));
		});
	image.addCommand(pullCommand());
	return image;
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

function table(): string {
	const rows = new ImageStore().list().flatMap((image) => {
		const names = image.names.length > 0 ? image.names : ["<none>:<none>"];
		return names.map((name) => {
			const colon = name.lastIndexOf(":");
			return [
				name.slice(0, colon),
				name.slice(colon + 1),
				image.id.slice(7, 19),
				age(image.created),
				size(image.sizeBytes),
			];
		});
	});
	const all = [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], ...rows];
	const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
	return all
		.map((row) =>
			row
				.map((cell, i) => cell.padEnd(widths[i]!))
				.join("   ")
				.trimEnd(),
		)
		.join("\n");
}

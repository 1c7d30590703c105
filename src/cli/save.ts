/*
 * `tsvmm save` and `tsvmm load`: images to and from an archive that Docker, podman and skopeo write and read, too.
 */
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Command } from "commander";
import { errnoName, explain, HostError, TsvmmError, UsageError } from "../base/errors.ts";
import { ImageStore } from "../container/image/store.ts";
import { publish, temporaryPath } from "../host/durable-file.ts";
import { untilInterrupted } from "./interrupt.ts";

/** `tsvmm save`, also `tsvmm image save`. */
export function saveCommand(): Command {
	return new Command("save")
		.description("write images to a tar archive")
		.argument("<image...>")
		.option("-o, --output <file>", "the archive; standard output when missing")
		.action(saveAction);
}

async function saveAction(names: string[], { output }: { output?: string }): Promise<void> {
	if (output === undefined && process.stdout.isTTY) {
		throw new UsageError("ERR_ARCHIVE_TERMINAL", "Cannot save to a terminal", {
			hint: "Name a file with -o, or redirect standard output",
		});
	}
	const { saveImages } = await import("../container/image/save.ts");
	const store = new ImageStore();
	for (const name of names) store.find(name);
	const work = (signal: AbortSignal) =>
		store.shared(async () => {
			const archive = Readable.from(saveImages(store, names), { objectMode: false });
			if (output !== undefined) await writeFile(archive, output, signal);
			else await pipeline(archive, process.stdout, { signal, end: false }).catch(ignoreBrokenPipe);
		});
	await untilInterrupted(`save ${names.join(" ")}`, (signal) =>
		work(signal).catch((error) => throwReason(signal, error)),
	);
}

/** The file appears when it is whole. */
async function writeFile(archive: Readable, path: string, signal: AbortSignal): Promise<void> {
	const temporary = temporaryPath(path);
	try {
		await pipeline(archive, createWriteStream(temporary, { flags: "wx" }), { signal });
		await publish(temporary, path);
	} catch (error) {
		if (error instanceof TsvmmError || signal.aborted) throw error;
		throw new HostError("ERR_SAVE", `Cannot write ${path}: ${explain(error)}`, { cause: error });
	} finally {
		await rm(temporary, { force: true });
	}
}

/** The reader has gone; output.ts gives the exit status. */
function ignoreBrokenPipe(error: unknown): void {
	if (errnoName(error) !== "EPIPE") throw error;
}

function throwReason(signal: AbortSignal, error: unknown): never {
	signal.throwIfAborted();
	throw error;
}

/** `tsvmm load`, also `tsvmm image load`. */
export function loadCommand(): Command {
	return new Command("load")
		.description("bring in the images of a tar archive that save, Docker, podman or skopeo has written")
		.option("-i, --input <file>", "the archive; standard input when missing")
		.option("-q, --quiet", "accepted for Docker's sake: there is no progress to hide")
		.action(loadAction);
}

async function loadAction({ input }: { input?: string }): Promise<void> {
	if (input === undefined && process.stdin.isTTY) {
		throw new UsageError("ERR_ARCHIVE_TERMINAL", "Cannot load from a terminal", {
			hint: "Name a file with -i, or redirect standard input",
		});
	}
	const { importImage } = await import("../container/image/import.ts");
	const work = (signal: AbortSignal) =>
		importImage(new ImageStore(), input ?? process.stdin, { nameless: true, signal });
	const images = await untilInterrupted(`load ${input ?? "standard input"}`, work);
	for (const { image, names } of images) {
		const lines = names.length > 0 ? names.map((name) => `Loaded image: ${name}`) : [`Loaded image ID: ${image.id}`];
		process.stdout.write(`${lines.join("\n")}\n`);
	}
}

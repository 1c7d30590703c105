/*
 * `tsvmm pull` and `tsvmm push`: flags -> transfer with a bar for each layer -> Docker's lines.
 */
import { Command } from "commander";
import { parseReference } from "../container/image/reference.ts";
import { ImageStore } from "../container/image/store.ts";
import { locate } from "../container/registry/location.ts";
import { withBlobProgress } from "./blob-progress.ts";
import { untilInterrupted } from "./interrupt.ts";

interface TransferFlags {
	quiet?: boolean;
	platform?: string;
	insecure?: boolean;
}

/** `tsvmm pull`, also `tsvmm image pull`. */
export function pullCommand(): Command {
	return new Command("pull")
		.description("bring an image from a registry")
		.argument("<image>", "NAME[:TAG] or NAME@DIGEST")
		.option("-q, --quiet", "print the image's name alone")
		.option("--platform <os/architecture>", "of an image for several platforms (default: linux/amd64)")
		.option("--insecure", "allow plain http and any certificate")
		.action(pullAction);
}

async function pullAction(name: string, { quiet, platform, insecure }: TransferFlags): Promise<void> {
	/* Imported here, so that listings do not load the schema and HTTP libraries. */
	const { pull } = await import("../container/registry/pull.ts");
	const say = (line: string) => quiet || process.stdout.write(`${line}\n`);
	const { tag, digest, repository } = parseReference(name);
	if (digest === undefined && !/:[\w.-]+$/.test(name)) say("Using default tag: latest");
	say(`${digest ?? tag}: Pulling from ${locate(repository).path}`);
	const work = (signal: AbortSignal) =>
		withBlobProgress(quiet ? undefined : "pull", (onProgress) =>
			pull(new ImageStore(), name, { platform, insecure, signal, onProgress }),
		);
	const pulled = await untilInterrupted(`pull ${name}`, work);
	say(`Digest: ${pulled.digest}`);
	say(`Status: ${pulled.isNewer ? "Downloaded newer image" : "Image is up to date"} for ${name}`);
	process.stdout.write(`${pulled.name}\n`);
}

/** `tsvmm push`, also `tsvmm image push`. */
export function pushCommand(): Command {
	return new Command("push")
		.description("send an image to its registry")
		.argument("<image>", "[HOST/]NAME[:TAG]; `tsvmm tag` gives an image such a name")
		.option("-q, --quiet", "print the image's name alone")
		.option("--insecure", "allow plain http and any certificate")
		.action(pushAction);
}

async function pushAction(name: string, { quiet, insecure }: TransferFlags): Promise<void> {
	const { push } = await import("../container/registry/push.ts");
	const say = (line: string) => quiet || process.stdout.write(`${line}\n`);
	const store = new ImageStore();
	const { tag, repository } = parseReference(name);
	const { registry, path } = locate(repository);
	if (store.has(name)) say(`The push refers to repository [${registry}/${path}]`);
	const work = (signal: AbortSignal) =>
		withBlobProgress(quiet ? undefined : "push", (onProgress) => push(store, name, { insecure, signal, onProgress }));
	const pushed = await untilInterrupted(`push ${name}`, work);
	if (quiet) process.stdout.write(`${pushed.name}\n`);
	else say(`${tag}: digest: ${pushed.digest} size: ${pushed.sizeBytes}`);
}

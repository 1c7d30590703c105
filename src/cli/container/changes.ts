/*
 * `tsvmm diff` and `tsvmm commit`: what a container has changed, and an image made of it. The container may be in the lab,
 * and the image store is this host's. So commit has the layer written to a file, in the lab if need be, and adds it here.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Command } from "commander";
import { printable } from "../../base/log.ts";
import { commitImage, type RunConfig } from "../../container/image/commit.ts";
import type { ImageConfig } from "../../container/image/config.ts";
import { applyInstructions } from "../../container/image/instructions.ts";
import { parseReference } from "../../container/image/reference.ts";
import { ImageStore } from "../../container/image/store.ts";
import { shown } from "../../container/image/tar/entry.ts";
import { withContainerAgent } from "../../container/life/agent-access.ts";
import { changesOf, withLayer } from "../../container/life/changes.ts";
import { ContainerConfig } from "../../container/life/config.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { reexecInLab } from "../../lab/host.ts";
import { append } from "../options.ts";
import { watchOutput } from "../output.ts";
import { areInLab, whereContainersAre } from "./where.ts";

export function diffCommand(): Command {
	return new Command("diff")
		.description("list what a container has changed in its image's files: A added, C changed, D deleted")
		.argument("<container>")
		.action((name: string) =>
			whereContainersAre(
				async () => {
					watchOutput();
					const changes = await withContainerAgent(new ContainerStore().find(name), changesOf);
					const lines = changes.map(({ kind, path }) => `${kind} /${shown(path)}\n`).join("");
					/* A guest has chosen the names. */
					process.stdout.write(process.stdout.isTTY ? printable(lines) : lines);
					return 0;
				},
				{ runs: true },
			),
		);
}

interface CommitFlags {
	author: string;
	change: string[];
	message: string;
	pause: boolean;
	quiet: boolean;
}

export function commitCommand(): Command {
	return new Command("commit")
		.description("make an image of a container's changes")
		.argument("<container>")
		.argument("[name]", "NAME[:TAG]")
		.option("-a, --author <author>", "who has made it", "")
		.option("-c, --change <instruction>", "CMD, ENV and the like, as in a Dockerfile; may be repeated", append, [])
		.option("-m, --message <text>", "a comment", "")
		.option("-p, --pause", "freeze its processes meanwhile", true)
		.option("--no-pause", "let them go on")
		.option("-q, --quiet", "accepted for podman's sake", false)
		.action(async (container: string, name: string | undefined, flags: CommitFlags) => {
			process.exitCode = await commit(container, name, flags);
		});
}

async function commit(name: string, imageName: string | undefined, flags: CommitFlags): Promise<number> {
	watchOutput();
	/* What is wrong with the command line is said before the work. */
	applyInstructions({}, flags.change);
	if (imageName !== undefined) parseReference(imageName);
	const directory = await mkdtemp(join(tmpdir(), "tsvmm-commit-"));
	try {
		const words = ["container", "layer", ...(flags.pause ? [] : ["--no-pause"]), name, directory];
		const status = (await areInLab({ runs: true }))
			? await reexecInLab(words, { quiet: true })
			: await writeLayer(name, directory, flags.pause);
		if (status !== 0) return status;
		const config = ContainerConfig.parse(JSON.parse(await readFile(join(directory, "config.json"), "utf8")));
		const store = new ImageStore();
		const parent = store.find(config.image.digest);
		const image = await commitImage(store, {
			parent,
			layer: createReadStream(join(directory, "layer.tar")),
			name: imageName,
			author: flags.author,
			comment: flags.message,
			createdBy: config.process.args.join(" "),
			change: (before) => applyInstructions(withContainer(before, config, parent.config), flags.change),
		});
		process.stdout.write(`${image.id}\n`);
		return 0;
	} finally {
		await rm(directory, { recursive: true, force: true });
	}
}

/** `tsvmm container layer`: the part of commit that reads the container; not for users. */
export function layerCommand(): Command {
	return new Command("layer")
		.argument("<container>")
		.argument("<directory>")
		.option("--no-pause")
		.action(async (name: string, directory: string, { pause }: { pause: boolean }) => {
			process.exitCode = await writeLayer(name, directory, pause);
		});
}

async function writeLayer(name: string, directory: string, pause: boolean): Promise<number> {
	const container = new ContainerStore().find(name);
	await withContainerAgent(container, (agent) =>
		withLayer(agent, pause, (layer) =>
			pipeline(Readable.from(layer, { objectMode: false }), createWriteStream(join(directory, "layer.tar"))),
		),
	);
	await writeFile(join(directory, "config.json"), JSON.stringify(container.config));
	container.record("commit");
	return 0;
}

/** What the container's flags have said is its image's now, as with Docker. */
function withContainer(
	before: RunConfig,
	{ process, labels, exposedPorts }: ContainerConfig,
	{ entrypoint }: ImageConfig,
): RunConfig {
	const { args, env, cwd, user } = process;
	const isOwn = entrypoint.some((word, i) => word !== args[i]);
	return {
		...before,
		Env: env.filter((variable) => !/^(HOSTNAME|TERM)=/.test(variable)),
		...(isOwn ? { Entrypoint: null, Cmd: args } : { Cmd: args.slice(entrypoint.length) }),
		WorkingDir: cwd,
		User: user,
		Labels: labels,
		...(exposedPorts.length === 0 ? {} : { ExposedPorts: Object.fromEntries(exposedPorts.map((port) => [port, {}])) }),
	};
}

/*
 * `tsvmm cp` and `tsvmm export`: a container's files from and to this host, also as a tar on standard streams.
 */
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { Command } from "commander";
import { errnoName, explain, HostError, UsageError } from "../../base/errors.ts";
import { withContainerAgent } from "../../container/life/agent-access.ts";
import { exportRoot } from "../../container/life/changes.ts";
import { copyIn, copyOut, openGuestTar, succeeded, writeGuestTar } from "../../container/life/copy.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { publish, temporaryPath } from "../../host/durable-file.ts";
import { fileShare, outputShare } from "../../lab/shares.ts";
import { watchOutput } from "../output.ts";
import { size } from "../units.ts";
import { whereContainersAre } from "./where.ts";

interface CopyFlags {
	archive: boolean;
	followLink: boolean;
	quiet: boolean;
}

export function copyCommand(): Command {
	return new Command("cp")
		.description("copy files between a container and this host")
		.argument("<source>", "NAME:PATH, PATH, or - for a tar on standard input")
		.argument("<destination>", "PATH, NAME:PATH, or - for a tar on standard output")
		.option("-a, --archive", "keep owners", false)
		.option("-L, --follow-link", "follow a symbolic link that is the source", false)
		.option("-q, --quiet", "do not say what was copied", false)
		.action((source: string, destination: string, flags: CopyFlags) => {
			const [from, to] = [readPlace(source), readPlace(destination)];
			if ((from.container === undefined) === (to.container === undefined)) {
				throw new UsageError("ERR_CP", "Cannot copy: one side is a container's, NAME:PATH, and one this host's");
			}
			const local = from.container === undefined ? from.path : to.path;
			const access = from.container === undefined ? ("ro" as const) : ("rw" as const);
			const shares = local === "-" ? [] : [fileShare(access === "rw" ? dirname(resolve(local)) : local, access)];
			return whereContainersAre(() => copy(from, to, flags), { runs: true, shares });
		});
}

interface Place {
	container?: string;
	path: string;
}

/** As Docker: what begins with / or . is this host's, and so is what has no colon. */
function readPlace(text: string): Place {
	const at = text.indexOf(":");
	if (/^[/.]/.test(text) || at < 0) return { path: text };
	return { container: text.slice(0, at), path: text.slice(at + 1) };
}

async function copy(from: Place, to: Place, { archive, followLink, quiet }: CopyFlags): Promise<number> {
	const container = new ContainerStore().find(from.container ?? to.container!);
	const say = (line: string) => {
		if (!quiet) process.stderr.write(`${line}\n`);
	};
	const options = {
		archive,
		follow: followLink,
		onSkipped: (path: string, type: string) => say(`Skipped ${path}: ${type}`),
	};
	return await withContainerAgent(container, async (agent) => {
		if (to.path === "-" && to.container === undefined) {
			watchOutput();
			const { session } = await openGuestTar(agent, from.path, followLink);
			await print(session.stdout);
			await succeeded(session, text(session.stderr), from.path);
		} else if (from.path === "-" && from.container === undefined) await writeGuestTar(agent, to.path, process.stdin);
		else if (from.container !== undefined) {
			say(`Successfully copied ${size(await copyOut(agent, from.path, to.path, options))} to ${resolve(to.path)}`);
		} else
			say(
				`Successfully copied ${size(await copyIn(agent, from.path, to.path, options))} to ${to.container}:${to.path}`,
			);
		return 0;
	});
}

export function exportCommand(): Command {
	return new Command("export")
		.description("write a container's files as a tar archive")
		.argument("<container>")
		.option("-o, --output <file>", "the archive; standard output when missing")
		.action((name: string, { output }: { output?: string }) => {
			if (output === undefined && process.stdout.isTTY) {
				throw new UsageError("ERR_ARCHIVE_TERMINAL", "Cannot export to a terminal", {
					hint: "Name a file with -o, or redirect standard output",
				});
			}
			const shares = output === undefined ? [] : [outputShare(output)];
			return whereContainersAre(() => exportContainer(name, output), { runs: true, shares });
		});
}

async function exportContainer(name: string, path: string | undefined): Promise<number> {
	const container = new ContainerStore().find(name);
	return await withContainerAgent(container, async (agent) => {
		const session = await exportRoot(agent);
		const complaint = text(session.stderr);
		if (path === undefined) {
			watchOutput();
			await print(session.stdout);
			await succeeded(session, complaint, name);
		} else await writeArchive(path, session.stdout, () => succeeded(session, complaint, name));
		container.record("export");
		return 0;
	});
}

/** The file appears when it is whole. */
async function writeArchive(path: string, archive: Readable, whole: () => Promise<void>): Promise<void> {
	const temporary = temporaryPath(path);
	try {
		await pipeline(archive, createWriteStream(temporary, { flags: "wx" })).catch((error: unknown) => {
			throw new HostError("ERR_SAVE", `Cannot write ${path}: ${explain(error)}`, { cause: error });
		});
		await whole();
		await publish(temporary, path);
	} finally {
		await rm(temporary, { force: true });
	}
}

/** The reader may go; output.ts gives the exit status. */
async function print(tar: Readable): Promise<void> {
	await pipeline(tar, process.stdout, { end: false }).catch((error: unknown) => {
		if (errnoName(error) !== "EPIPE") throw error;
	});
}

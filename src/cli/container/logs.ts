/*
 * `tsvmm logs`: what a container has written, each stream to its own.
 */
import { once } from "node:events";
import { Command } from "commander";
import { HostError, ignore, UsageError } from "../../base/errors.ts";
import { readLog } from "../../container/life/log-reader.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { watchOutput, withOutput } from "../output.ts";
import { readTime } from "../time.ts";
import { whereContainersAre } from "./where.ts";

interface LogsFlags {
	follow: boolean;
	since?: string;
	tail: string;
	timestamps: boolean;
	until?: string;
}

export function logsCommand(): Command {
	return new Command("logs")
		.description("print what a container has written")
		.argument("<container>")
		.option("-f, --follow", "and what it still writes, until it has ended", false)
		.option("-n, --tail <lines>", "only the last lines", "all")
		.option("--since <time>", "only what is newer: RFC 3339, seconds since 1970, or as long ago as 10m")
		.option("--until <time>", "only what is older")
		.option("-t, --timestamps", "with the time of each line", false)
		.action((name: string, flags: LogsFlags) => {
			const tail = flags.tail === "all" || /^-\d+$/.test(flags.tail) ? undefined : readTail(flags.tail);
			const sinceMs = flags.since === undefined ? undefined : readTime(flags.since);
			const untilMs = flags.until === undefined ? undefined : readTime(flags.until);
			return whereContainersAre(async () => {
				watchOutput();
				const container = new ContainerStore().find(name);
				if (container.config.logDriver === "none") throw noLog(container);
				const goesOn = flags.follow ? () => container.isSupervised() : undefined;
				const outputs = { stdout: process.stdout, stderr: process.stderr };
				for await (const { log, stream, time } of readLog(container.paths.log, { tail, sinceMs, untilMs, goesOn })) {
					const output = outputs[stream];
					if (process.stdout.destroyed) break;
					if (!output.write(flags.timestamps ? `${time} ${log}` : log)) await drained(output);
				}
				return withOutput(0);
			});
		});
}

/** Resolves when more can be written, or nothing can any more. */
async function drained(output: NodeJS.WriteStream): Promise<void> {
	/* A failed write is watchOutput's. */
	await once(output, "drain").catch(ignore);
}

function noLog({ shortId }: StoredContainer): HostError {
	return new HostError("ERR_LOGS", `Cannot print the output of container ${shortId}: its log driver is none`);
}

function readTail(text: string): number {
	if (/^\d{1,9}$/.test(text)) return Number(text);
	throw new UsageError("ERR_LOGS", `Cannot print the last "${text}" lines: a number or all is wanted`);
}

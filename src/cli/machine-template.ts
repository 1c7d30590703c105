/*
 * `tsvmm template make|ls|rm`: machines that have booted, of which those of containers are made (src/container/template).
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { makePrepared } from "../container/template/background.ts";
import { makeTemplate } from "../container/template/make.ts";
import { listTemplates, removeTemplate, type Template } from "../container/template/store.ts";
import { whereContainersAre } from "./container/where.ts";
import { FORMAT_HELP, formatRows, type Listing } from "./format.ts";
import { untilInterrupted } from "./interrupt.ts";
import { addShapeFlags, type ShapeFlags, shapeOf } from "./shape-flags.ts";
import { size } from "./units.ts";

const LISTING: Listing = {
	headings: { Cpus: "CPUS" },
	table: "{{.Key}}\t{{.Cpus}}\t{{.Memory}}\t{{.Size}}\t{{.Created}}\t{{.Kernel}}",
};

export function templateCommand(): Command {
	return new Command("template")
		.description("machines that have booted, for containers that start at once")
		.addCommand(makeCommand())
		.addCommand(listCommand())
		.addCommand(removeCommand())
		.addCommand(prepareCommand(), { hidden: true });
}

function makeCommand(): Command {
	const command = new Command("make").description("boot a machine and keep it");
	return addShapeFlags(command).action(async (flags: ShapeFlags) => {
		const shape = await shapeOf(flags);
		const make = () =>
			untilInterrupted("make a template", async (signal) => {
				if (process.stderr.isTTY) process.stderr.write("tsvmm: booting a machine, and keeping it\n");
				await makeTemplate(shape, { signal });
				return 0;
			});
		await whereContainersAre(make, { runs: true });
	});
}

/** What src/container/template/background.ts starts, not for users. */
function prepareCommand(): Command {
	return new Command("prepare")
		.argument("<shape>")
		.action((shape: string) => untilInterrupted("make a template", (signal) => makePrepared(shape, signal)));
}

function listCommand(): Command {
	return new Command("ls")
		.alias("list")
		.description("list templates")
		.option("--format <format>", FORMAT_HELP)
		.action(({ format }: { format?: string }) =>
			whereContainersAre(async () => {
				process.stdout.write(formatRows((await listTemplates()).map(rowOf), LISTING, format));
				return 0;
			}),
		);
}

function rowOf({ key, manifest: { machine, created }, bytes }: Template) {
	const { cpus, memoryMiB, kernel } = machine;
	return { Key: key, Cpus: cpus, Memory: `${memoryMiB}MiB`, Size: size(bytes), Created: created, Kernel: kernel };
}

function removeCommand(): Command {
	return new Command("rm")
		.description("remove templates; machines that were made of them go on")
		.argument("[key...]", "of those that ls shows")
		.option("-a, --all", "all of them", false)
		.action((keys: string[], { all }: { all: boolean }) => whereContainersAre(() => remove(keys, all)));
}

async function remove(keys: readonly string[], all: boolean): Promise<number> {
	if (all === keys.length > 0) {
		throw new UsageError("ERR_USAGE", "Cannot remove templates: either keys or --all are wanted");
	}
	const templates = await listTemplates();
	const wanted = all ? templates : keys.map((key) => found(templates, key));
	for (const { path } of wanted) removeTemplate(path);
	return 0;
}

function found(templates: readonly Template[], key: string): Template {
	const template = templates.find((one) => one.key === key);
	if (template !== undefined) return template;
	throw new UsageError("ERR_TEMPLATE_MISSING", `Cannot remove template ${JSON.stringify(key)}: there is none`, {
		hint: "See tsvmm template ls for those that there are",
	});
}

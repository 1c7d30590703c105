/*
 * `tsvmm template make|ls|rm`: machines that have booted, of which those of containers are made (src/container/template).
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { containerKernel } from "../container/life/kernel.ts";
import { makePrepared } from "../container/template/background.ts";
import { makeTemplate } from "../container/template/make.ts";
import { sharedShape } from "../container/template/shape.ts";
import { listTemplates, removeTemplate, type Template } from "../container/template/store.ts";
import { validateSize } from "../machine/config.ts";
import { whereContainersAre } from "./container/where.ts";
import { FORMAT_HELP, formatRows, type Listing } from "./format.ts";
import { untilInterrupted } from "./interrupt.ts";
import { parseCpus, parseMemory } from "./options.ts";
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
	return new Command("make")
		.description("boot a machine and keep it")
		.option("--cpus <n>", "vCPUs of the machine, 1 to 32", "1")
		.option("--memory <size>", "RAM of the machine, as in 512M", "512M")
		.option("--kernel <name|file>", "a kernel of `tsvmm kernel ls`, or a vmlinux with everything built in")
		.action(async (flags: { cpus: string; memory: string; kernel?: string }) => {
			const machine = { cpus: parseCpus(flags.cpus), memoryMiB: parseMemory(flags.memory) };
			validateSize(machine.cpus, machine.memoryMiB);
			const kernel = await containerKernel(flags.kernel);
			/* Here, because the lab cannot write the initramfs. */
			const shape = await sharedShape({ kernel, ...machine });
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

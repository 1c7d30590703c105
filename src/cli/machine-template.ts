/*
 * `tsvmm template make|ls|rm`: machines that have booted, of which those of containers are made (src/container/template).
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { containerKernel } from "../container/life/kernel.ts";
import { sharedShape } from "../container/run.ts";
import { makeTemplate } from "../container/template/make.ts";
import { listTemplates, removeTemplate } from "../container/template/store.ts";
import { parseCpus, parseMemory } from "./options.ts";
import { watchOutput } from "./output.ts";
import { size } from "./units.ts";

export function templateCommand(): Command {
	return new Command("template")
		.description("machines that have booted, for containers that start at once")
		.addCommand(makeCommand())
		.addCommand(listCommand())
		.addCommand(removeCommand());
}

function makeCommand(): Command {
	return new Command("make")
		.description("boot a machine and keep it")
		.option("--cpus <n>", "vCPUs of the machine, 1 to 32", "1")
		.option("--memory <size>", "RAM of the machine, as in 512M", "512M")
		.option("--kernel <kernel>", "a name of kernel ls, or a path")
		.action(async (flags: { cpus: string; memory: string; kernel?: string }) => {
			const size = { cpus: parseCpus(flags.cpus), memoryMiB: parseMemory(flags.memory) };
			const kernel = await containerKernel(flags.kernel);
			await makeTemplate(await sharedShape({ kernel, ...size }));
		});
}

function listCommand(): Command {
	return new Command("ls").description("list templates").action(async () => {
		watchOutput();
		for (const { key, manifest, bytes } of await listTemplates()) {
			const { cpus, memoryMiB, kernel } = manifest.machine;
			process.stdout.write(`${key}  ${cpus} vCPU  ${memoryMiB} MiB  ${size(bytes)}  ${kernel}\n`);
		}
	});
}

function removeCommand(): Command {
	return new Command("rm")
		.description("remove templates; machines that were made of them go on")
		.argument("[key...]", "of those that ls shows")
		.option("-a, --all", "all of them", false)
		.action(async (keys: string[], { all }: { all: boolean }) => {
			const templates = await listTemplates();
			const wanted = all ? templates.map(({ key }) => key) : keys;
			for (const key of wanted) {
				const found = templates.find((template) => template.key === key);
				if (found === undefined)
					throw new UsageError("ERR_TEMPLATE_MISSING", `Cannot remove template ${key}: there is none`);
				removeTemplate(found.path);
			}
		});
}

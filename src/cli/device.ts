/*
 * `tsvmm device`: devices of one's own (docs/device-experiments.md).
 */
import { Command } from "commander";
import { writeSkeleton } from "../workbench/skeleton.ts";

/** The command for main.ts. */
export function deviceCommand(): Command {
	return new Command("device").description("virtio devices of your own, in TypeScript files").addCommand(newCommand());
}

function newCommand(): Command {
	return new Command("new")
		.description("write a device that works, to go on from")
		.argument("<name>", "small letters, digits and dashes")
		.option("--dir <path>", "where to", ".")
		.action((name: string, { dir }: { dir: string }) => {
			const path = writeSkeleton(name, dir);
			process.stdout.write(`${path}\n`);
		});
}

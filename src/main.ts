#!/usr/bin/env -S node --
/*
 * tsvmm: argv -> command -> process.exitCode. Each command is a file in cli/ and is loaded only when it runs. (The "--"
 * above keeps Node from reading options for a container, such as --env-file.)
 */
import { Command, CommanderError } from "commander";
import { watchOutput, withOutput } from "./cli/output.ts";
import { reportError, watchDefects } from "./cli/report.ts";
import { configureCommand } from "./cli/usage.ts";
import { describeVersion } from "./cli/version.ts";

/** Name, summary and where the command is. */
const COMMANDS: [name: string, summary: string, load: () => Promise<Command>][] = [
	["boot", "boot a Linux kernel in a microVM", async () => (await import("./cli/boot.ts")).bootCommand()],
	["run", "run a container in a microVM", async () => (await import("./cli/run.ts")).runCommand()],
	["image", "import, list and remove container images", async () => (await import("./cli/image.ts")).imageCommand()],
	["pull", "bring an image from a registry", async () => (await import("./cli/pull.ts")).pullCommand()],
	["kernel", "fetch, build and list guest kernels", async () => (await import("./cli/kernel.ts")).kernelCommand()],
	["lab", "a KVM host for machines that have none", async () => (await import("./cli/lab.ts")).labCommand()],
	[
		"doctor",
		"what this host can do, and what is missing",
		async () => (await import("./cli/doctor.ts")).doctorCommand(),
	],
	[
		"completion",
		"print a completion script for a shell",
		async () => (await import("./cli/completion.ts")).completionCommand(() => program(() => true)),
	],
	[
		"manual",
		"print the manual page",
		async () => (await import("./cli/manual.ts")).manualCommand(() => program(() => true)),
	],
];

/** The commander tree. Other commands than `wanted` have only a name and a summary. */
async function program(wanted: (name: string) => boolean): Promise<Command> {
	const root = new Command("tsvmm")
		.description("a virtual machine monitor in TypeScript for Linux KVM")
		.version(describeVersion())
		.enablePositionalOptions();
	for (const [name, summary, load] of COMMANDS) {
		const command = wanted(name) ? await load() : new Command(name);
		root.addCommand(command.summary(summary));
	}
	return configureCommand(root);
}

/** Runs one command line; resolves with the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
	const [first, second] = argv.filter((word) => !word.startsWith("-"));
	const named = first === "help" ? second : first;
	const streams = first === "run" || first === "boot";
	if (!streams || argv.includes("--help")) watchOutput();
	try {
		await (await program((name) => name === named)).parseAsync(argv, { from: "user" });
		return Number(process.exitCode ?? 0);
	} catch (error) {
		/* Help or the version was printed. As in Docker, a missing command also prints help and is no error. */
		if (error instanceof CommanderError) return 0;
		return reportError(error);
	}
}

watchDefects();
process.exitCode = withOutput(await main(process.argv.slice(2)));

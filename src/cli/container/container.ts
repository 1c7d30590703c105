/*
 * `tsvmm container ...`: every command on containers once more under its group, as Docker has it.
 */
import { Command } from "commander";
import { commitCommand, diffCommand, layerCommand } from "./changes.ts";
import { copyCommand, exportCommand } from "./copy.ts";
import { attachCommand, execCommand } from "./exec.ts";
import { inspectCommand } from "./inspect.ts";
import {
	killCommand,
	pauseCommand,
	pruneCommand,
	renameCommand,
	restartCommand,
	rmCommand,
	startCommand,
	stopCommand,
	unpauseCommand,
	waitCommand,
} from "./life.ts";
import { logsCommand } from "./logs.ts";
import { portCommand, psCommand } from "./ps.ts";
import { createCommand, runCommand } from "./run.ts";
import { statsCommand, topCommand } from "./stats.ts";
import { updateCommand } from "./update.ts";

export function containerCommand(): Command {
	const container = new Command("container").description("commands on containers").enablePositionalOptions();
	const commands = [
		attachCommand(),
		commitCommand(),
		copyCommand(),
		createCommand(),
		diffCommand(),
		execCommand(),
		exportCommand(),
		inspectCommand(),
		killCommand(),
		logsCommand(),
		psCommand("ls").alias("list").alias("ps"),
		pauseCommand(),
		portCommand(),
		pruneCommand(),
		renameCommand(),
		restartCommand(),
		rmCommand(),
		runCommand(),
		startCommand(),
		statsCommand(),
		stopCommand(),
		topCommand(),
		unpauseCommand(),
		updateCommand(),
		waitCommand(),
	];
	for (const command of commands) container.addCommand(command);
	container.addCommand(layerCommand(), { hidden: true });
	return container;
}

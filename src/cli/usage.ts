/*
 * Turns commander's errors into errors of ours: the same form, the same exit status, and a hint that names the help to
 * read.
 */
import type { Command, CommanderError, Option } from "commander";
import { UsageError } from "../base/errors.ts";
import { EXAMPLES } from "./examples.ts";

/** Columns of help text, unless the terminal is narrower. */
const HELP_COLUMNS = 100;

/** Makes `command` and its subcommands throw UsageError, and puts their examples below their help. */
export function configureCommand(command: Command, path = command.name()): Command {
	command.configureOutput({
		/* reportError prints it. */
		outputError: () => undefined,
		getOutHelpWidth: () => Math.min(process.stdout.columns ?? HELP_COLUMNS, HELP_COLUMNS),
		getErrHelpWidth: () => Math.min(process.stderr.columns ?? HELP_COLUMNS, HELP_COLUMNS),
	});
	command.configureHelp({ optionDescription: describeOption });
	command.exitOverride((error) => {
		throw error.exitCode === 0 || error.code === "commander.help" ? error : usageError(path, error);
	});
	const examples = EXAMPLES[path];
	if (examples !== undefined) {
		command.addHelpText("after", `\nExamples:\n${examples.map((line) => `  ${line}\n`).join("")}`.trimEnd());
	}
	for (const child of command.commands) configureCommand(child, `${path} ${child.name()}`);
	return command;
}

/** "RAM, as in 512M or 2G (default: 512M)". The defaults of switches and lists are not shown. */
function describeOption({ description, defaultValue, defaultValueDescription }: Option): string {
	const shown = defaultValueDescription ?? (typeof defaultValue === "string" ? defaultValue : undefined);
	return shown === undefined ? description : `${description} (default: ${shown})`;
}

/** "error: unknown option '--menory'\n(Did you mean --memory?)" */
function usageError(path: string, { message }: CommanderError): UsageError {
	const [first = "", suggestion] = message.replace(/^error: /, "").split("\n");
	const found = first
		.replace(/\. Expected (\d+) arguments? but got (\d+)\.$/, ": expected $1, got $2")
		.replaceAll("'", '"')
		.replace(/\.$/, "");
	const help = `${path} --help`;
	const guess = suggestion?.replace(/^\(Did you mean (?:one of )?(.*)\?\)$/, "$1");
	return new UsageError("ERR_USAGE", `Cannot read the command line: ${found}`, {
		hint: guess === undefined ? `See ${help}` : `Try ${guess}, or see ${help}`,
	});
}

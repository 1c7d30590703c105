/*
 * `tsvmm manual`: the manual page, made from the commander tree and the examples (man-pages(7), groff_man(7)).
 *
 *     tsvmm manual | man -l -
 */
import { Command } from "commander";
import { EXAMPLES } from "./examples.ts";

/** Escapes text for roff: no line begins with a control character, and a hyphen is a minus sign. */
function roff(text: string): string {
	return text
		.replaceAll("\\", "\\e")
		.replaceAll("-", "\\-")
		.replace(/^([.'])/gm, "\\&$1");
}

/** .SH or .SS with its text in capitals, as in man pages. */
function section(command: Command, path: string): string[] {
	const help = command.createHelp();
	const usage = `${path} ${command.usage()}`.trim();
	const items = [
		...help.visibleArguments(command).map((argument) => [help.argumentTerm(argument), argument.description] as const),
		...help.visibleOptions(command).map((option) => [help.optionTerm(option), help.optionDescription(option)] as const),
	];
	const examples = EXAMPLES[path] ?? [];
	return [
		`.SS "${roff(usage)}"`,
		roff(command.description()),
		...items.flatMap(([term, description]) => [".TP", `.B "${roff(term)}"`, roff(description)]),
		...(examples.length === 0 ? [] : [".PP", "Examples:", ".PP", ".nf", ".RS", ...examples.map(roff), ".RE", ".fi"]),
		...help
			.visibleCommands(command)
			.filter((child) => child.name() !== "help")
			.flatMap((child) => section(child, `${path} ${child.name()}`)),
	];
}

/** The whole page as roff source. */
export function manualPage(program: Command): string {
	const name = program.name();
	const help = program.createHelp();
	const commands = help.visibleCommands(program).filter((command) => command.name() !== "help");
	return `${[
		`.TH ${name.toUpperCase()} 1 "" "${name} ${program.version()?.split(" ")[0]}" "User Commands"`,
		".SH NAME",
		`${name} \\- ${roff(program.description())}`,
		".SH SYNOPSIS",
		`.B ${name}`,
		roff("COMMAND [OPTION...] [ARGUMENT...]"),
		".SH DESCRIPTION",
		roff("Boots a real Linux kernel in a microVM on KVM and runs containers in it, with the interface of docker run."),
		".SH COMMANDS",
		...commands.flatMap((command) => section(command, `${name} ${command.name()}`)),
		".SH EXIT STATUS",
		...EXIT_STATUSES.flatMap(([status, meaning]) => [".TP", `.B ${status}`, roff(meaning)]),
		".SH ENVIRONMENT",
		...ENVIRONMENT.flatMap(([variable, meaning]) => [".TP", `.B ${variable}`, roff(meaning)]),
	].join("\n")}\n`;
}

const EXIT_STATUSES = [
	["0", "done; with run and lab exec the program's own status"],
	["101", "boot: the guest's kernel has panicked"],
	["102", "boot: the guest's processor met a triple fault"],
	["103", "boot: KVM could not go on running the guest"],
	["125", "tsvmm itself has failed; standard error says at what, with a stable code"],
	["126", "run, lab exec: the program could not be executed"],
	["127", "run, lab exec: the program was not found"],
	["128+n", "run, lab exec: signal n has killed the program"],
] as const;

const ENVIRONMENT = [
	["TSVMM_CACHE", "where images and kernels are kept; $XDG_CACHE_HOME/tsvmm or ~/.cache/tsvmm when not set"],
	["TSVMM_RUNTIME", "where sockets and the state of what runs are kept; $XDG_RUNTIME_DIR/tsvmm when not set"],
	["TSVMM_HOST", "direct or lab: where boot and run start their machine; chosen by what the host can do when not set"],
	["TSVMM_DEBUG", "when set, stack and causes follow an error"],
] as const;

/** @param program gives the whole tree, all commands loaded */
export function manualCommand(program: () => Promise<Command>): Command {
	return new Command("manual").description("print the manual page, for man -l -").action(async () => {
		process.stdout.write(manualPage(await program()));
	});
}

/*
 * `tsvmm completion SHELL`: a script for the shell. It is made from the commander tree that reads the command line, so
 * the two always agree. The script starts tsvmm only to ask for the names of images.
 */
import { type Argument, Command, type Option } from "commander";
import { UsageError } from "../base/errors.ts";

/** How a value is completed: files by the shell, images by `tsvmm completion images`, fixed words, or not at all. */
type Values = { kind: "files" } | { kind: "images" } | { kind: "words"; words: readonly string[] } | { kind: "none" };

/** One command with everything that may follow it. */
interface Place {
	/** "tsvmm image ls" */
	path: string;
	subcommands: { name: string; description: string }[];
	/** `values` is undefined for a switch. */
	options: { names: string[]; description: string; values: Values | undefined }[];
	/** Values of each argument. Those of the last one are also for all that follow. */
	argument: Values;
}

/** The kind of value, by the placeholder: "file", "name|file", "path" or "image". */
function valuesOf({ argChoices }: Pick<Option | Argument, "argChoices">, placeholder: string): Values {
	if (argChoices !== undefined) return { kind: "words", words: argChoices };
	if (/\b(file|path)\b/.test(placeholder)) return { kind: "files" };
	return /\bimage\b/.test(placeholder) ? { kind: "images" } : { kind: "none" };
}

/** Every visible command of the tree, the program itself first. */
function placesOf(command: Command, path = command.name()): Place[] {
	const help = command.createHelp();
	const children = help.visibleCommands(command);
	const first = command.registeredArguments[0];
	const place: Place = {
		path,
		subcommands: children.map((child) => ({ name: child.name(), description: help.subcommandDescription(child) })),
		options: help.visibleOptions(command).map((option) => ({
			names: [option.short, option.long].filter((name) => name !== undefined),
			description: option.description,
			values: option.required || option.optional ? valuesOf(option, option.flags) : undefined,
		})),
		argument: first === undefined ? { kind: "none" } : valuesOf(first, first.name()),
	};
	const rest = children.filter((child) => child.name() !== "help");
	return [place, ...rest.flatMap((child) => placesOf(child, `${path} ${child.name()}`))];
}

const SHELLS = ["bash", "zsh", "fish"] as const;

/** The script for one of SHELLS. @throws UsageError ERR_USAGE for any other */
export function completionScript(shell: string, program: Command): string {
	const places = placesOf(program);
	if (shell === "bash") return bashScript(places);
	if (shell === "zsh") return `autoload -U +X bashcompinit && bashcompinit\n${bashScript(places)}`;
	if (shell === "fish") return fishScript(places);
	throw new UsageError("ERR_USAGE", `Cannot complete for shell "${shell}": ${SHELLS.join(", ")} are known`);
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function bashReply(values: Values): string {
	switch (values.kind) {
		case "files":
			return 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))';
		case "images":
			return 'COMPREPLY=($(compgen -W "$(tsvmm completion images 2>/dev/null)" -- "$cur"))';
		case "words":
			return `COMPREPLY=($(compgen -W ${quote(values.words.join(" "))} -- "$cur"))`;
		case "none":
			return ":";
	}
}

function bashScript(places: readonly Place[]): string {
	const paths = places.slice(1).map(({ path }) => quote(path));
	const values = places.flatMap(({ path, options }) =>
		options.flatMap((option) =>
			option.values === undefined
				? []
				: [
						`\t${option.names.map((name) => quote(`${path} ${name}`)).join("|")}) ${bashReply(option.values)}; return ;;`,
					],
		),
	);
	const words = places.map(({ path, subcommands, options, argument }) => {
		const names = options.flatMap((option) => option.names).join(" ");
		const rest =
			subcommands.length > 0
				? bashReply({ kind: "words", words: subcommands.map(({ name }) => name) })
				: bashReply(argument);
		return `\t${quote(path)}) if [[ "$cur" == -* ]]; then ${bashReply({ kind: "words", words: [names] })}; else ${rest}; fi ;;`;
	});
	/* Not "path": to zsh that is PATH. */
	return `_tsvmm() {
	local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" place=tsvmm i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "$place \${COMP_WORDS[i]}" in
		${paths.join("|")}) place="$place \${COMP_WORDS[i]}" ;;
		esac
	done
	case "$place $prev" in
${values.join("\n")}
	esac
	case "$place" in
${words.join("\n")}
	esac
}
complete -F _tsvmm tsvmm
`;
}

function fishValues(values: Values): string {
	switch (values.kind) {
		case "files":
			return "-r -F";
		case "images":
			return "-x -a '(tsvmm completion images 2>/dev/null)'";
		case "words":
			return `-x -a ${quote(values.words.join(" "))}`;
		case "none":
			return "-x";
	}
}

function fishScript(places: readonly Place[]): string {
	const lines = places.flatMap(({ path, subcommands, options, argument }) => {
		const here = `complete -c tsvmm -n 'test (__tsvmm_path) = "${path}"'`;
		return [
			...subcommands.map(({ name, description }) => `${here} -f -a ${name} -d ${quote(description)}`),
			...options.map(({ names, description, values }) => {
				const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
				const taken = values === undefined ? "" : ` ${fishValues(values)}`;
				return `${here} ${flags.join(" ")}${taken} -d ${quote(description)}`;
			}),
			...(argument.kind === "files" ? [`${here} -F`] : []),
			...(argument.kind === "images" ? [`${here} -f -a '(tsvmm completion images 2>/dev/null)'`] : []),
		];
	});
	return `function __tsvmm_path
	set -l path tsvmm
	for word in (commandline -opc)[2..]
		if contains -- "$path $word" ${places.map(({ path }) => quote(path)).join(" ")}
			set path "$path $word"
		end
	end
	echo $path
end
complete -c tsvmm -f
${lines.join("\n")}
`;
}

/** @param program gives the whole tree, all commands loaded */
export function completionCommand(program: () => Promise<Command>): Command {
	return new Command("completion")
		.description("print a completion script for a shell")
		.argument("<shell>", `${SHELLS.join(", ")}; or images, for the names of all images`)
		.action(async (shell: string) => {
			if (shell !== "images") {
				process.stdout.write(completionScript(shell, await program()));
				return;
			}
			const { ImageStore } = await import("../container/image/store.ts");
			for (const { names } of new ImageStore().list()) process.stdout.write(names.map((name) => `${name}\n`).join(""));
		});
}

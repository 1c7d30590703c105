/*
 * tsvmm: argv -> command -> process.exitCode. Each command is a file in cli/ and is loaded only when it runs.
 */
import { Command, CommanderError } from "commander";
import { watchOutput } from "./cli/output.ts";
import { runProgram } from "./cli/program.ts";
import { reportError } from "./cli/report.ts";
import { configureCommand } from "./cli/usage.ts";
import { describeVersion } from "./cli/version.ts";
import { PACKAGE_MODULES } from "./package-modules.ts";

/** Name, summary and where the command is. */
const COMMANDS: [name: string, summary: string, load: () => Promise<Command>][] = [
	[
		"boot",
		"boot a Linux kernel in a microVM",
		async () => (await import("./cli/boot.ts")).bootCommand(PACKAGE_MODULES),
	],
	["run", "run a container in a microVM", async () => (await import("./cli/container/run.ts")).runCommand()],
	[
		"create",
		"make a container without running it",
		async () => (await import("./cli/container/run.ts")).createCommand(),
	],
	["start", "start containers", async () => (await import("./cli/container/life.ts")).startCommand()],
	[
		"exec",
		"run a command in a container that runs",
		async () => (await import("./cli/container/exec.ts")).execCommand(),
	],
	[
		"events",
		"tell what happens to containers",
		async () => (await import("./cli/container/events.ts")).eventsCommand(),
	],
	["stats", "show what containers use", async () => (await import("./cli/container/stats.ts")).statsCommand()],
	["top", "list the processes of a container", async () => (await import("./cli/container/stats.ts")).topCommand()],
	[
		"cp",
		"copy files between a container and this host",
		async () => (await import("./cli/container/copy.ts")).copyCommand(),
	],
	[
		"diff",
		"list what a container has changed in its image's files",
		async () => (await import("./cli/container/changes.ts")).diffCommand(),
	],
	[
		"commit",
		"make an image of a container's changes",
		async () => (await import("./cli/container/changes.ts")).commitCommand(),
	],
	[
		"export",
		"write a container's files as a tar archive",
		async () => (await import("./cli/container/copy.ts")).exportCommand(),
	],
	[
		"dump",
		"a machine's memory and registers as a core file",
		async () => (await import("./cli/dump.ts")).dumpCommand(),
	],
	["snapshot", "machines as files", async () => (await import("./cli/snapshot.ts")).snapshotCommand(PACKAGE_MODULES)],
	[
		"template",
		"machines that have booted, for containers that start at once",
		async () => (await import("./cli/machine-template.ts")).templateCommand(),
	],
	[
		"pool",
		"machines that wait for containers, which then start at once",
		async () => (await import("./cli/pool.ts")).poolCommand(),
	],
	["system", "what images and containers take on disk", async () => (await import("./cli/system.ts")).systemCommand()],
	["attach", "attach to a container that runs", async () => (await import("./cli/container/exec.ts")).attachCommand()],
	["ps", "list containers", async () => (await import("./cli/container/ps.ts")).psCommand()],
	["logs", "print what a container has written", async () => (await import("./cli/container/logs.ts")).logsCommand()],
	["stop", "stop containers", async () => (await import("./cli/container/life.ts")).stopCommand()],
	[
		"restart",
		"stop containers and start them again",
		async () => (await import("./cli/container/life.ts")).restartCommand(),
	],
	["kill", "send a signal to containers", async () => (await import("./cli/container/life.ts")).killCommand()],
	["pause", "stop all processors of containers", async () => (await import("./cli/container/life.ts")).pauseCommand()],
	["unpause", "let paused containers go on", async () => (await import("./cli/container/life.ts")).unpauseCommand()],
	["wait", "wait until containers have ended", async () => (await import("./cli/container/life.ts")).waitCommand()],
	["rm", "remove containers", async () => (await import("./cli/container/life.ts")).rmCommand()],
	["rename", "give a container another name", async () => (await import("./cli/container/life.ts")).renameCommand()],
	[
		"update",
		"change limits and restart policies",
		async () => (await import("./cli/container/update.ts")).updateCommand(),
	],
	[
		"inspect",
		"print what is known of a container",
		async () => (await import("./cli/container/inspect.ts")).inspectCommand(),
	],
	[
		"port",
		"list the published ports of a container",
		async () => (await import("./cli/container/ps.ts")).portCommand(),
	],
	["pod", "containers in one machine", async () => (await import("./cli/pod.ts")).podCommand()],
	["volume", "directories that containers share", async () => (await import("./cli/volume.ts")).volumeCommand()],
	[
		"network",
		"networks on which containers reach each other",
		async () => (await import("./cli/network.ts")).networkCommand(),
	],
	[
		"container",
		"commands on containers",
		async () => (await import("./cli/container/container.ts")).containerCommand(),
	],
	[
		"image",
		"import, pull, list and remove container images",
		async () => (await import("./cli/image.ts")).imageCommand(),
	],
	["pull", "bring an image from a registry", async () => (await import("./cli/pull.ts")).pullCommand()],
	["push", "send an image to its registry", async () => (await import("./cli/pull.ts")).pushCommand()],
	["images", "list images", async () => (await import("./cli/image-list.ts")).imageListCommand("images")],
	["tag", "give an image one more name", async () => (await import("./cli/image-names.ts")).tagCommand()],
	["rmi", "remove images", async () => (await import("./cli/image-names.ts")).removeImagesCommand("rmi")],
	["history", "show how an image came to be", async () => (await import("./cli/image-names.ts")).historyCommand()],
	["save", "write images to a tar archive", async () => (await import("./cli/save.ts")).saveCommand()],
	["load", "bring in the images of a tar archive", async () => (await import("./cli/save.ts")).loadCommand()],
	["login", "log in to a registry", async () => (await import("./cli/login.ts")).loginCommand()],
	["logout", "forget the credentials for a registry", async () => (await import("./cli/login.ts")).logoutCommand()],
	["kernel", "fetch, build and list guest kernels", async () => (await import("./cli/kernel.ts")).kernelCommand()],
	[
		"learn",
		"ten labs: build a virtual machine monitor, step by step",
		async () => (await import("./cli/learn.ts")).learnCommand(PACKAGE_MODULES),
	],
	[
		"device",
		"virtio devices of your own, in TypeScript files",
		async () => (await import("./cli/device.ts")).deviceCommand(PACKAGE_MODULES),
	],
	[
		"replay",
		"play what a guest did with a device against a device in a file",
		async () => (await import("./cli/replay.ts")).replayCommand(PACKAGE_MODULES),
	],
	["lab", "a KVM host for machines that have none", async () => (await import("./cli/lab.ts")).labCommand()],
	[
		"explain",
		"tell what a traced machine did, and why it failed",
		async () => (await import("./cli/explain.ts")).explainCommand(),
	],
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

const STREAMS: ReadonlySet<string> = new Set([
	"run",
	"boot",
	"snapshot",
	"start",
	"exec",
	"attach",
	"container",
	"cp",
	"export",
]);

/**
 * The commander tree. Other commands than `wanted` have only a name and a summary.
 *
 * @param commands that are in it
 */
async function program(wanted: (name: string) => boolean, commands = COMMANDS): Promise<Command> {
	const root = new Command("tsvmm")
		.description("a virtual machine monitor in TypeScript for Linux KVM")
		.version(describeVersion())
		.enablePositionalOptions();
	for (const [name, summary, load] of commands) {
		const command = wanted(name) ? await load() : new Command(name);
		root.addCommand(command.summary(summary));
	}
	return configureCommand(root);
}

/** Runs one command line; resolves with the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
	/* Other programs' command lines: their flags, words and exit statuses are not tsvmm's (src/oci-bin.ts). */
	if (argv[0] === "oci") return (await import("./cli/oci/main.ts")).ociMain(argv.slice(1));
	if (argv[0] === "shim") return (await import("./cli/shim/main.ts")).shimMain(argv.slice(1));
	if (argv[0] === "container" && argv[1] === "supervise") {
		return (await import("./cli/container/supervise.ts")).superviseMain(argv);
	}
	const [first, second] = argv.filter((word) => !word.startsWith("-"));
	const named = first === "help" ? second : first;
	/* Commands that carry a guest's streams open standard output in their own way. */
	if (first === undefined || !STREAMS.has(first) || argv.includes("--help")) watchOutput();
	try {
		/* Help and a misspelt command need the names of all. */
		const one = COMMANDS.filter(([name]) => name === first);
		const root = await program((name) => name === named, one.length === 1 ? one : COMMANDS);
		await root.parseAsync(argv, { from: "user" });
		return Number(process.exitCode ?? 0);
	} catch (error) {
		/* Help or the version was printed. As in Docker, a missing command also prints help and is no error. */
		if (error instanceof CommanderError) return 0;
		return reportError(error);
	}
}

runProgram(main);

/*
 * `tsvmm exec` and `tsvmm attach`: one more process in a container that runs, and the streams of its own one.
 */

import { readFileSync } from "node:fs";
import { Command } from "commander";
import { StateError, UsageError } from "../../base/errors.ts";
import { execDetached, execInContainer } from "../../container/life/commands.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { mergeEnv, readEnvFile, readVariable } from "../../container/process-spec.ts";
import { DETACH_KEYS_FLAG } from "../detach-keys.ts";
import { attachForeground, commandStdio, execForeground } from "./foreground.ts";
import { whereContainersAre } from "./where.ts";

interface ExecFlags {
	detach: boolean;
	detachKeys?: string;
	env: string[];
	envFile: string[];
	interactive: boolean;
	privileged: boolean;
	tty: boolean;
	user?: string;
	workdir?: string;
}

export function execCommand(): Command {
	return new Command("exec")
		.description("run a command in a container that runs")
		.argument("<container>")
		.argument("<command...>")
		.passThroughOptions()
		.option("-d, --detach", "leave it running", false)
		.option(...DETACH_KEYS_FLAG)
		.option("-e, --env <name[=value]>", "set a variable, or pass the host's on; may be repeated", append, [])
		.option("--env-file <file>", "read variables from a file; may be repeated", append, [])
		.option("-i, --interactive", "pass standard input on", false)
		.option("--privileged", "with all capabilities", false)
		.option("-t, --tty", "give the command a terminal", false)
		.option("-u, --user <user[:group]>", "user in the container, by name or number")
		.option("-w, --workdir <directory>", "working directory in the container")
		.action((name: string, args: string[], flags: ExecFlags) => whereContainersAre(() => exec(name, args, flags)));
}

async function exec(name: string, args: string[], flags: ExecFlags): Promise<number> {
	if (flags.tty && flags.interactive && !flags.detach && process.stdin.isTTY !== true) {
		throw new UsageError("ERR_RUN_TTY", "Cannot give the command a terminal: standard input is none", {
			hint: "Leave -t out when input comes from a pipe or file",
		});
	}
	const container = new ContainerStore().find(name);
	const { process: own } = container.config;
	const given = [
		...flags.envFile.flatMap((path) => readEnvFile(readFileSync(path, "utf8"), process.env)),
		...flags.env.flatMap((text) => readVariable(text, process.env)),
	];
	const spec = {
		args,
		env: mergeEnv(flags.tty ? ["TERM=xterm"] : [], own.env, given),
		cwd: flags.workdir ?? own.cwd,
		createCwd: false,
		user: flags.user ?? own.user,
	};
	if (flags.detach) {
		await execDetached(container, { ...spec, tty: flags.tty, privileged: flags.privileged });
		return 0;
	}
	const stdio = commandStdio(flags);
	try {
		const { terminal } = stdio;
		const streams =
			terminal === undefined ? (flags.interactive ? {} : { stdin: "null" as const }) : { tty: terminal.size() };
		return await execForeground(await execInContainer(container, { ...spec, ...streams }, flags), stdio);
	} finally {
		stdio.close();
	}
}

export function attachCommand(): Command {
	return new Command("attach")
		.description("show the output of a container that runs, and pass input and signals on")
		.argument("<container>")
		.option("--no-stdin", "pass no standard input on")
		.option(...DETACH_KEYS_FLAG)
		.action((name: string, flags: AttachFlags) => whereContainersAre(() => attach(name, flags)));
}

interface AttachFlags {
	stdin: boolean;
	detachKeys?: string;
}

async function attach(name: string, { stdin, detachKeys }: AttachFlags): Promise<number> {
	const container = new ContainerStore().find(name);
	const { status } = container.state();
	if (status !== "running") {
		throw new StateError(
			"ERR_CONTAINER_NOT_RUNNING",
			`Cannot attach to container ${container.shortId}: it is ${status}`,
		);
	}
	const { tty, openStdin } = container.config.process;
	const stdio = commandStdio({ interactive: stdin && openStdin, tty, detachKeys });
	try {
		return await attachForeground(container, undefined, stdio);
	} finally {
		stdio.close();
	}
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

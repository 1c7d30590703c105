/*
 * Commands that change how a container is: start, stop, restart, kill, pause, unpause, wait, rm, rename, prune.
 */
import { Command } from "commander";
import { UsageError } from "../../base/errors.ts";
import {
	killContainer,
	pauseContainer,
	removeContainer,
	restartContainer,
	startContainer,
	stopContainer,
	unpauseContainer,
	waitForContainer,
} from "../../container/life/commands.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { DETACH_KEYS_FLAG } from "../detach-keys.ts";
import { watchOutput } from "../output.ts";
import { eachContainer } from "./each.ts";
import { readSeconds, readSignal } from "./flags.ts";
import { attachForeground, commandStdio } from "./foreground.ts";
import { warn } from "./warn.ts";
import { whereContainersAre } from "./where.ts";

export function startCommand(): Command {
	return new Command("start")
		.description("start containers that do not run")
		.argument("<container...>")
		.option("-a, --attach", "show its output, and pass signals on", false)
		.option("-i, --interactive", "pass standard input on", false)
		.option(...DETACH_KEYS_FLAG)
		.action((names: string[], flags: StartFlags) => whereContainersAre(() => start(names, flags), { runs: true }));
}

interface StartFlags {
	attach: boolean;
	interactive: boolean;
	detachKeys?: string;
}

async function start(names: string[], { attach, interactive, detachKeys }: StartFlags) {
	if (!attach && !interactive) {
		return await eachContainer(names, async (container) => {
			const launch = await startContainer(container);
			await launch?.running;
			if (launch !== undefined) warn(container);
		});
	}
	if (names.length > 1) {
		throw new UsageError("ERR_RUN_ATTACH", "Cannot start and attach to several containers at once");
	}
	const container = new ContainerStore().find(names[0]!);
	const { tty } = container.config.process;
	const stdio = commandStdio({ interactive, tty, detachKeys });
	try {
		const launch = await startContainer(container, { awaitAttach: true });
		return await attachForeground(container, launch?.running, stdio, () => {
			if (launch !== undefined) warn(container);
		});
	} finally {
		stdio.close();
	}
}

export function stopCommand(): Command {
	return new Command("stop")
		.description("ask containers to end, and kill those that take too long")
		.argument("<container...>")
		.option("-s, --signal <signal>", "what to send in place of the container's stop signal")
		.option("-t, --time <seconds>", "how long to wait before it is killed; -1: for ever")
		.action((names: string[], flags: StopFlags) => {
			const options = stopOptions(flags);
			return whereContainersAre(() => eachContainer(names, (container) => stopContainer(container, options)));
		});
}

interface StopFlags {
	signal?: string;
	time?: string;
}

function stopOptions({ signal, time }: StopFlags): { signal?: number; timeoutMs?: number } {
	return {
		...(signal === undefined ? {} : { signal: readSignal(signal) }),
		...(time === undefined ? {} : { timeoutMs: readSeconds(time) * 1000 }),
	};
}

export function restartCommand(): Command {
	return new Command("restart")
		.description("stop containers and start them again")
		.argument("<container...>")
		.option("-s, --signal <signal>", "what to send in place of the container's stop signal")
		.option("-t, --time <seconds>", "how long to wait before it is killed; -1: for ever")
		.action((names: string[], flags: StopFlags) => {
			const options = stopOptions(flags);
			const restart = (container: StoredContainer) => restartContainer(container, options);
			return whereContainersAre(() => eachContainer(names, restart), { runs: true });
		});
}

export function killCommand(): Command {
	return new Command("kill")
		.description("send a signal to containers")
		.argument("<container...>")
		.option("-s, --signal <signal>", "by name or number", "KILL")
		.action((names: string[], { signal }: { signal: string }) => {
			const number = readSignal(signal);
			return whereContainersAre(() => eachContainer(names, (container) => killContainer(container, number)));
		});
}

export function pauseCommand(): Command {
	return new Command("pause")
		.description("stop all processors of containers")
		.argument("<container...>")
		.action((names: string[]) => whereContainersAre(() => eachContainer(names, pauseContainer)));
}

export function unpauseCommand(): Command {
	return new Command("unpause")
		.description("let paused containers go on")
		.argument("<container...>")
		.action((names: string[]) => whereContainersAre(() => eachContainer(names, unpauseContainer)));
}

export function waitCommand(): Command {
	return new Command("wait")
		.description("wait until containers have ended, and print their exit codes")
		.argument("<container...>")
		.action((names: string[]) =>
			whereContainersAre(() => eachContainer(names, async (container) => `${await waitForContainer(container)}`)),
		);
}

export function rmCommand(): Command {
	return new Command("rm")
		.description("remove containers")
		.argument("<container...>")
		.option("-f, --force", "kill those that run first; one that is not there is no error", false)
		.option("-v, --volumes", "remove their anonymous volumes, too", false)
		.action((names: string[], { force, volumes }: { force: boolean; volumes: boolean }) =>
			whereContainersAre(() => {
				const store = new ContainerStore();
				const present = force ? names.filter((name) => isThere(store, name)) : names;
				return eachContainer(present, (container) => removeContainer(container, { force, volumes }));
			}),
		);
}

function isThere(store: ContainerStore, name: string): boolean {
	try {
		return store.find(name) !== undefined;
	} catch {
		return false;
	}
}

export function renameCommand(): Command {
	return new Command("rename")
		.description("give a container another name")
		.argument("<container>")
		.argument("<name>")
		.action((name: string, newName: string) =>
			whereContainersAre(async () => {
				const store = new ContainerStore();
				await store.rename(store.find(name), newName);
				return 0;
			}),
		);
}

export function pruneCommand(): Command {
	return new Command("prune")
		.description("remove all containers that do not run")
		.option("-f, --force", "accepted for Docker's sake: nothing is asked", false)
		.action(() => whereContainersAre(prune));
}

async function prune(): Promise<number> {
	watchOutput();
	const store = new ContainerStore();
	await store.collectLeftovers();
	const ended = store.list().filter((container) => !container.isSupervised());
	if (ended.length > 0) process.stdout.write("Deleted Containers:\n");
	return await eachContainer(
		ended.map(({ id }) => id),
		(container) => removeContainer(container),
	);
}

/*
 * create, run, start, kill, delete, pause, resume: a container's life, as runc's commands have it.
 */
import { renameSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join } from "node:path";
import { type ExitStatus, exitStatus } from "../../agent/session.ts";
import { ignore } from "../../base/errors.ts";
import { FORWARDED_SIGNALS } from "../../base/signals.ts";
import { launchDetached, readinessReporter } from "../../host/detached-process.ts";
import { type Bundle, readBundle } from "../../oci/bundle.ts";
import { joinCgroups, rememberCgroups, removeCgroups } from "../../oci/cgroups.ts";
import type { ContainerProcess } from "../../oci/container-process.ts";
import { askProcess } from "../../oci/control.ts";
import { checkProgram } from "../../oci/find-program.ts";
import { runHooks } from "../../oci/hooks.ts";
import { payloadStdio } from "../../oci/payload.ts";
import { OciError } from "../../oci/runtime-error.ts";
import { standInChannel, startStandIn } from "../../oci/stand-in.ts";
import {
	becomes,
	type ContainerRecord,
	checkId,
	type HostProcess,
	hostProcess,
	NO_PROCESS,
	OciContainer,
	runs,
} from "../../oci/state.ts";
import { checkScope } from "../../oci/systemd.ts";

export interface CreateOptions {
	root: string;
	bundle: string;
	pidFile?: string | undefined;
	consoleSocket?: string | undefined;
	/** Whether its control group is to be systemd's. */
	systemd: boolean;
}

const { SIGKILL } = constants.signals;
/** SIGRTMAX. */
const MOST_SIGNAL = 64;

/** Makes a container. Its process goes on when this one has ended. */
export async function create(id: string, options: CreateOptions): Promise<void> {
	const { container, bundle } = begin(id, options);
	try {
		const { pid, channel } = await startStandIn(bundle);
		container.write({ ...container.read(), process: hostProcess(pid) });
		try {
			await launchDetached({
				words: [...globalWords(options), "supervise", ...consoleWords(options), id],
				log: logOf(options.consoleSocket),
				channel,
				attempt: "unable to start container process: the process of its machine",
				code: "ERR_OCI_FAILED",
			});
		} finally {
			channel.destroy();
		}
		if (options.pidFile !== undefined) writePid(options.pidFile, pid);
	} catch (error) {
		await removeContainer(container);
		throw error;
	}
}

/** With a terminal a process keeps none of the caller's streams: containerd waits for the end of them. */
export function logOf(consoleSocket: string | undefined): string | undefined {
	return consoleSocket === undefined ? undefined : "/dev/null";
}

function globalWords({ root, systemd }: CreateOptions): string[] {
	return ["oci", "--root", root, ...(systemd ? ["--systemd-cgroup"] : [])];
}

function consoleWords({ consoleSocket }: CreateOptions): string[] {
	return consoleSocket === undefined ? [] : ["--console-socket", consoleSocket];
}

/** Checks a bundle, and makes the container's directory. */
function begin(
	id: string,
	{ root, bundle: directory, consoleSocket, systemd }: CreateOptions,
	isDetached = true,
): { container: OciContainer; bundle: Bundle } {
	const container = new OciContainer(root, checkId(id));
	const bundle = readBundle(directory);
	if (systemd) checkScope(bundle.config.linux?.cgroupsPath);
	const terminal = bundle.process.terminal === true;
	if (isDetached && terminal && consoleSocket === undefined)
		throw new OciError("ERR_OCI_TERMINAL", "cannot allocate tty if runc will detach without setting console socket");
	if (!terminal && consoleSocket !== undefined)
		throw new OciError("ERR_OCI_TERMINAL", "cannot use console socket if runc will not detach or allocate tty");
	container.make();
	try {
		checkProgram(bundle);
		container.write({
			...{ id, status: "creating", bundle: bundle.path, rootfs: bundle.rootfs },
			...{ process: NO_PROCESS, machine: NO_PROCESS },
			...{ created: new Date().toISOString(), annotations: bundle.config.annotations, sandbox: id, terminal },
			cgroups: [],
		});
	} catch (error) {
		container.remove();
		throw error;
	}
	return { container, bundle };
}

/** The process of the container's machine, which `create` has started. @returns its own exit status */
export async function supervise(
	id: string,
	{ root, consoleSocket, systemd }: Pick<CreateOptions, "root" | "consoleSocket" | "systemd">,
): Promise<number> {
	const onReady = readinessReporter("ERR_OCI_FAILED");
	try {
		const container = new OciContainer(root, id);
		const record = container.read();
		const bundle = readBundle(record.bundle);
		const leaveCgroups = rememberCgroups();
		const counted = [process.pid, record.process.pid];
		container.write({ ...record, cgroups: await joinCgroups(bundle.config, counted, systemd) });
		let isTold = false;
		const onLend = async (exit: ExitStatus) => {
			isTold = true;
			leaveCgroups();
			await tell(exitStatus(exit));
		};
		const stdio = () => payloadStdio(record.terminal, consoleSocket);
		const running = await processIn(container, bundle, { stdio, onReady, onLend });
		const tell = standInChannel(() => running.kill());
		const exit = await running.run();
		if (!isTold) await tell(exitStatus(exit));
		return 0;
	} catch (error) {
		onReady(error);
		/* Standard error is the container's. */
		return 1;
	}
}

export interface RunOptions extends CreateOptions {
	detach: boolean;
	keep: boolean;
}

/** Makes and starts a container, and unless detached stays until it has ended and removes it. @returns its exit status */
export async function run(id: string, options: RunOptions): Promise<number> {
	if (options.detach) {
		await create(id, options);
		await start(id, options.root);
		return 0;
	}
	const { container, bundle } = begin(id, options, options.consoleSocket !== undefined);
	let onReady!: () => void;
	const ready = new Promise<void>((resolve) => {
		onReady = resolve;
	});
	const stdio = () => payloadStdio(bundle.process.terminal === true, options.consoleSocket);
	try {
		const process = await processIn(container, bundle, { stdio, onReady });
		const unforward = forwardSignals(process);
		const running = process.run();
		try {
			await Promise.race([ready, running]);
			if (options.pidFile !== undefined) writePid(options.pidFile, globalThis.process.pid);
			/* A signal may have ended it already. */
			const started = process.do({ do: "start" }).then(() => runHooks(bundle.config, "poststart", container.read()));
			await Promise.race([started, running]);
			return exitStatus(await running);
		} catch (error) {
			process.kill();
			await running.catch(ignore);
			throw error;
		} finally {
			unforward();
		}
	} finally {
		if (!options.keep) await removeContainer(container);
	}
}

/** This process's signals are the payload's; before that runs, they end the container. */
/** Loads all that a machine needs. The other commands start sooner without it. */
async function processIn(...args: ConstructorParameters<typeof ContainerProcess>): Promise<ContainerProcess> {
	const module = await import("../../oci/container-process.ts");
	return new module.ContainerProcess(...args);
}

function forwardSignals(process: ContainerProcess): () => void {
	const handlers = FORWARDED_SIGNALS.map((name) => {
		const signal = constants.signals[name];
		const handler = () => void process.do({ do: "kill", signal, all: false }).catch(ignore);
		globalThis.process.on(name, handler);
		return () => globalThis.process.off(name, handler);
	});
	return () => {
		for (const back of handlers) back();
	};
}

/** Lets a container's payload run. */
export async function start(id: string, root: string): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	const { status, bundle } = container.read();
	if (status === "stopped") throw new OciError("ERR_OCI_STOPPED", "cannot start a container that has stopped");
	if (status === "paused") throw new OciError("ERR_OCI_PAUSED", "cannot start a container in the paused state");
	if (status !== "created" && status !== "creating")
		throw new OciError("ERR_OCI_RUNNING", "cannot start an already running container");
	await askProcess(container.control, { do: "start" });
	await runHooks(readBundle(bundle).config, "poststart", container.read());
}

/** Sends a signal to a container's process, or to all in it. */
export async function kill(id: string, signal: string, { root, all }: { root: string; all: boolean }): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	const { status } = container.read();
	const number = signalOf(signal);
	if (status === "stopped") {
		if (all) return;
		throw new OciError("ERR_OCI_STOPPED", "container not running");
	}
	if (status === "paused" && number === SIGKILL) await askProcess(container.control, { do: "resume" });
	await askProcess(container.control, { do: "kill", signal: number, all });
}

function signalOf(text: string): number {
	const signals: Readonly<Record<string, number>> = constants.signals;
	const name = text.toUpperCase();
	const number = /^\d+$/.test(text) ? Number(text) : (signals[name] ?? signals[`SIG${name}`] ?? 0);
	if (number >= 1 && number <= MOST_SIGNAL) return number;
	const message =
		number > MOST_SIGNAL ? "unable to signal init: invalid argument" : `unknown signal ${JSON.stringify(text)}`;
	throw new OciError("ERR_OCI_SIGNAL", message);
}

/** Removes what a container that has stopped has left; with `force` also one that runs, or none at all. */
export async function remove(id: string, { root, force }: { root: string; force: boolean }): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	let record: ContainerRecord;
	try {
		record = container.read();
	} catch (error) {
		if (force) return container.remove();
		throw error;
	}
	const { status } = record;
	if (status !== "stopped" && !(force || status === "created"))
		throw new OciError("ERR_OCI_RUNNING", `cannot delete container ${id} that is not stopped: ${status}`);
	await removeContainer(container);
}

/** Ends a container's processes if there are any, and removes its directory. @returns the number of its stand-in */
export async function removeContainer(container: OciContainer): Promise<number> {
	const record = container.read();
	const { process: standIn, machine, bundle } = record;
	if (standIn.pid !== process.pid) {
		killIfThere(standIn);
		/* It sees that, and leaves nothing behind, or goes on for others of its pod. */
		const isFree = () => !runs(machine) || hasLentMachine(container);
		if (!(await becomes(isFree))) killIfThere(machine);
		await becomes(() => isFree() && !runs(standIn));
	}
	removeCgroups(record.cgroups);
	container.remove();
	if (standIn.pid !== 0)
		await runHooks(readBundle(bundle).config, "poststop", { ...record, status: "stopped" }).catch(() => undefined);
	return standIn.pid;
}

/** Whether it has ended, and its machine's process has become its pod's. */
function hasLentMachine(container: OciContainer): boolean {
	try {
		return container.read().machine.pid === 0;
	} catch {
		/* Another command removes it, too. */
		return false;
	}
}

function killIfThere(one: HostProcess): void {
	try {
		if (runs(one)) process.kill(one.pid, "SIGKILL");
	} catch {
		/* It has just ended. */
	}
}

/** Stops all processes of a container, or lets them go on. */
export async function pause(id: string, root: string, paused: boolean): Promise<void> {
	const container = new OciContainer(root, checkId(id));
	const { status } = container.read();
	if (paused && status !== "running" && status !== "created")
		throw new OciError("ERR_OCI_STOPPED", `container not running`);
	if (!paused && status !== "paused") throw new OciError("ERR_OCI_STOPPED", "container not paused");
	await askProcess(container.control, { do: paused ? "pause" : "resume" });
}

/** A reader of the file never sees half of a number. */
export function writePid(path: string, pid: number): void {
	const temporary = join(dirname(path), `.${basename(path)}`);
	writeFileSync(temporary, `${pid}`, { mode: 0o666 });
	renameSync(temporary, path);
}

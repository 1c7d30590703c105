/*
 * What commands do to a container: start, stop, kill, wait, remove, attach, exec.
 */
import { connect } from "node:net";
import { constants } from "node:os";
import { AgentClient } from "../../agent/client.ts";
import type { ExecSpec } from "../../agent/exec-spec.ts";
import type { Session } from "../../agent/session.ts";
import { HostError, ignore, StateError } from "../../base/errors.ts";
import { connectTo, RemoteError } from "../../host/request-socket.ts";
import { privilegeKeys } from "../privileges.ts";
import { agentName } from "./config.ts";
import { askSupervisor, type DetachedExec } from "./control.ts";
import { launchMember } from "./join.ts";
import { type Launch, type LaunchOptions, launchSupervisor } from "./launch.ts";
import { recordExec } from "./record-exec.ts";
import type { ContainerState } from "./state.ts";
import type { StoredContainer } from "./store.ts";

const { SIGKILL } = constants.signals;
const POLL_MS = 20;
/** Of what tells by itself. */
const RARE_POLL_MS = 500;
/** How long a supervisor takes at most to open its sockets, and to go once it was killed. */
const PATIENCE_MS = 30_000;
/** The longest that a timer can wait. */
const LONG_MS = 2 ** 31 - 1;

/**
 * Starts a container that does not run. Resolves when its supervisor is on its way; `running` says how that went.
 *
 * @returns undefined when it runs already
 */
export async function startContainer(container: StoredContainer, options?: LaunchOptions): Promise<Launch | undefined> {
	return await container.exclusively(async () => {
		if (container.isSupervised()) {
			if (!isOver(container.state())) return undefined;
			await end(container);
		}
		const launch =
			container.config.joins === undefined ? launchSupervisor(container, options) : launchMember(container, options);
		/* Until it has the lock (or has failed), so that the next command sees it. */
		let hasBegun = false;
		const over = Promise.race([launch.running.catch(ignore), ...(launch.begun === undefined ? [] : [launch.begun])]);
		void over.then(() => {
			hasBegun = true;
		});
		/* Looking takes time that the supervisor needs. */
		const pauseMs = launch.begun === undefined ? POLL_MS : RARE_POLL_MS;
		while (!hasBegun && !container.isSupervised()) await Promise.race([over, pause(pauseMs)]);
		return launch;
	});
}

/**
 * Asks the container's process to end, and kills it when it takes too long.
 *
 * @param options.timeoutMs negative: as long as it takes; the container's own when missing
 * @returns false when it did not run
 */
export async function stopContainer(
	container: StoredContainer,
	options: { signal?: number; timeoutMs?: number } = {},
): Promise<boolean> {
	const deadline = performance.now() + PATIENCE_MS;
	while (container.isSupervised()) {
		const answer = await askSupervisor(container.paths, { do: "stop", ...options });
		if (answer !== undefined || performance.now() > deadline) {
			await untilGone(container);
			return true;
		}
		/* It does not listen yet, or was killed. */
		await pause();
	}
	return false;
}

/** Stops a container and starts it again. Resolves when it runs. */
export async function restartContainer(
	container: StoredContainer,
	options: { signal?: number; timeoutMs?: number } = {},
): Promise<void> {
	await stopContainer(container, options);
	await (await startContainer(container))?.running;
	container.record("restart");
}

/** Sends a signal to the container's process. @throws StateError ERR_CONTAINER_NOT_RUNNING */
export async function killContainer(container: StoredContainer, signal: number): Promise<void> {
	await mustRun(container, "kill");
	await askSupervisor(container.paths, { do: "kill", signal });
	/* What is asked next finds it ended. */
	if (signal === SIGKILL) await untilGone(container);
}

/** Resolves with the container's exit status when it has ended, at once when it has. */
export async function waitForContainer(container: StoredContainer): Promise<number> {
	for (;;) {
		if (!container.isSupervised()) return container.state().exitCode;
		const answer = await askSupervisor(container.paths, { do: "wait" });
		if (answer?.exitCode !== undefined) return answer.exitCode;
		/* It is about to listen, or was killed. */
		await pause();
	}
}

export async function pauseContainer(container: StoredContainer): Promise<void> {
	await mustRun(container, "pause");
	await askSupervisor(container.paths, { do: "pause" });
}

export async function unpauseContainer(container: StoredContainer): Promise<void> {
	await mustRun(container, "unpause");
	await askSupervisor(container.paths, { do: "unpause" });
}

/**
 * Removes a container.
 *
 * @param options.force kills it first when it runs
 * @param options.volumes removes its anonymous volumes, too
 * @throws StateError ERR_CONTAINER_RUNNING
 */
export async function removeContainer(
	container: StoredContainer,
	{ force = false, volumes = false }: { force?: boolean; volumes?: boolean } = {},
): Promise<void> {
	await container.exclusively(async () => {
		if (container.isSupervised()) {
			if (!force && !isOver(container.state())) {
				throw new StateError("ERR_CONTAINER_RUNNING", `Cannot remove container ${container.shortId}: it is running`, {
					hint: "Stop it first, or remove it with -f",
				});
			}
			await end(container);
		}
		await container.erase({ volumes });
	});
}

/** Its process has ended; the supervisor is about to, or waits for a slow reader of the last output. */
function isOver({ status, error }: ContainerState): boolean {
	return status === "exited" || (status === "created" && error !== undefined);
}

/** Kills the process, and the supervisor when it does not answer. */
async function end(container: StoredContainer): Promise<void> {
	const { paths } = container;
	const stopped = askSupervisor(paths, { do: "stop", timeoutMs: 0 }).catch(() => undefined);
	await Promise.race([stopped, pause(PATIENCE_MS)]);
	if (container.isSupervised()) {
		const { pid } = container.state();
		try {
			/* A member's supervisor is that of others, too. */
			if (pid > 0 && container.config.joins === undefined) process.kill(pid, "SIGKILL");
		} catch {
			/* It has ended in the meantime. */
		}
	}
	await untilGone(container);
}

/**
 * A process in a container that runs; its streams are the caller's. The connection ends with it.
 *
 * @param privileged it has all capabilities, whatever the container has
 */
export async function execInContainer(
	container: StoredContainer,
	spec: Omit<ExecSpec, "container">,
	{ privileged = false } = {},
): Promise<Session> {
	await mustRun(container, "run a command in", false);
	const socket = await connectTo(container.paths.agent);
	if (socket === undefined) throw notRunning(container, "run a command in", "exited");
	const client = new AgentClient(socket);
	try {
		await client.hello();
		const privileges = privilegeKeys({ ...container.config.privileges, ...(privileged ? { privileged } : {}) });
		const starting = client.exec({ ...privileges, ...spec, container: agentName(container.config) });
		const session = await (spec.tool === undefined ? recordExec(container, spec.args, starting) : starting);
		const close = () => client.close();
		void session.exit.then(close, close);
		return session;
	} catch (error) {
		client.close();
		throw error;
	}
}

/** A process in a container that runs, left to itself. */
export async function execDetached(container: StoredContainer, process: DetachedExec): Promise<void> {
	await mustRun(container, "run a command in", false);
	await askSupervisor(container.paths, { do: "exec", process });
}

/**
 * The streams of the container's process. Resolves when it runs.
 *
 * @param tty the size of the caller's terminal
 * @throws RemoteError what the container could not be started for
 */
export async function attachToContainer(
	container: StoredContainer,
	tty?: { columns: number; rows: number },
): Promise<Session> {
	const deadline = performance.now() + PATIENCE_MS;
	for (;;) {
		const socket = connect(container.paths.attach);
		const client = new AgentClient(socket);
		try {
			await client.hello();
			/* The answer comes when the machine has booted, which the supervisor bounds. */
			const session = await client.exec({ args: [], ...(tty === undefined ? {} : { tty }) }, { timeoutMs: LONG_MS });
			const close = () => client.close();
			void session.exit.then(close, close);
			return session;
		} catch (error) {
			client.close();
			const lost = error instanceof Error && "code" in error && error.code === "ERR_AGENT_LOST";
			if (!lost) throw error;
			if (!container.isSupervised()) throw endedMeanwhile(container);
			if (performance.now() > deadline) throw error;
			await pause();
		}
	}
}

/** What ended a container while somebody waited for it. */
export function endedMeanwhile(container: StoredContainer): Error {
	const { error } = container.state();
	return error === undefined ? notRunning(container, "attach to", "exited") : new RemoteError(error);
}

async function mustRun(container: StoredContainer, attempt: string, pausedToo = true): Promise<void> {
	const { status } = container.state();
	if (status === "running" || (status === "paused" && pausedToo)) return;
	throw notRunning(container, attempt, status);
}

function notRunning(container: StoredContainer, attempt: string, status: string): StateError {
	return new StateError(
		"ERR_CONTAINER_NOT_RUNNING",
		`Cannot ${attempt} container ${container.shortId}: it is ${status}`,
		{
			hint: status === "paused" ? `Run tsvmm unpause ${container.shortId}` : `Run tsvmm start ${container.shortId}`,
		},
	);
}

/** Resolves when no supervisor of it lives any more: its end is recorded then. @throws HostError ERR_CONTAINER_FAILED */
export async function untilGone(container: StoredContainer): Promise<void> {
	const deadline = performance.now() + PATIENCE_MS;
	while (container.isSupervised()) {
		if (performance.now() > deadline) {
			throw new HostError(
				"ERR_CONTAINER_FAILED",
				`Cannot end container ${container.shortId}: its supervisor does not end`,
			);
		}
		await pause();
	}
}

function pause(ms = POLL_MS): Promise<void> {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, ms);
		if (ms > POLL_MS) timer.unref();
	});
}

/*
 * One container while it is supervised: its process, started again by its policy, the output on its way to the log and to
 * attached clients, its sockets, its state.json. The machine is its host's (container-host.ts).
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { exitStatus } from "../../agent/session.ts";
import { explain, StateError, TsvmmError } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import { InterruptedError } from "../../base/signals.ts";
import { Teardown } from "../../base/teardown.ts";
import { Timeline } from "../../base/timeline.ts";
import { processMarks } from "../../host/process-start.ts";
import { answerRequests, failureOf } from "../../host/request-socket.ts";
import { MachineRequests, type SnapshotRequest, type SnapshotWatch } from "../../machine/control.ts";
import type { Container } from "../container.ts";
import { privilegeKeys } from "../privileges.ts";
import { writingState } from "../state-failure.ts";
import { serveAgent } from "./agent-server.ts";
import { AttachServer } from "./attach-server.ts";
import type { ContainerConfig } from "./config.ts";
import type { ContainerHost } from "./container-host.ts";
import type { ControlAnswer, ControlRequest } from "./control.ts";
import type { DebugOptions } from "./debugged.ts";
import { watchHealth } from "./health.ts";
import { LogFile, type OutputStream } from "./log-file.ts";
import { readLogLimits } from "./log-limits.ts";
import { dumpContainer, explainContainer } from "./look-inside.ts";
import type { MachineNetworks } from "./machine-networks.ts";
import type { Notes } from "./notes.ts";
import { recordExec } from "./record-exec.ts";
import { mayRestart, RestartDelay } from "./restart-policy.ts";
import { mustBeSavable } from "./saved-container.ts";
import { type ContainerState, writeState } from "./state.ts";
import type { StoredContainer } from "./store.ts";

export interface WatchOptions {
	/** The process is started only when somebody has attached, so that nobody misses its first output. */
	awaitAttach: boolean;
	/** Called when the container runs, or with why it does not; the first call counts. */
	onReady: (error?: unknown) => void;
	/** Called when clients of the container can connect, before it runs. */
	onListening?: (() => void) | undefined;
	/** The phases of its starts are told in its state; not when missing. */
	timings?: boolean | undefined;
	/** Somebody wants to be told of the machine, until the first run has ended. */
	notes?: Notes | undefined;
	/** Somebody wants to debug the machine of the first run. */
	debug?: DebugOptions | undefined;
	/** Starts another container in its machine. A container that has itself joined one has no such. */
	join?: (id: string, awaitAttach: boolean) => Promise<void>;
}

const { SIGKILL } = constants.signals;
/** How long a client that is attached may take for the last output of a container that was stopped. */
const SLOW_CLIENT_MS = 1000;

/** How one run of the process ended. */
interface RunEnd {
	exitCode: number;
	error?: unknown;
	/** Whether the process ran at all. */
	started: boolean;
}

/** Watches one container from its start to its end, in whatever machine its host gives it. */
export class SupervisedContainer implements AsyncDisposable {
	readonly #stored: StoredContainer;
	readonly #config: ContainerConfig;
	readonly #options: WatchOptions;
	readonly #host: ContainerHost;
	readonly #teardown = new Teardown();
	readonly #ended: Promise<number>;
	#end!: (exitCode: number) => void;
	#state: ContainerState;
	/** Ends a start that is under way, and the pause before the next one. */
	#abort = new AbortController();
	#attach: AttachServer | undefined;
	#container: Container | undefined;
	readonly #requests = new MachineRequests({
		snapshot: (request, watch) => this.#snapshot(request, watch),
		dump: (request, watch) => dumpContainer({ host: this.#host, stored: this.#stored }, request, watch),
		explain: (request) => explainContainer({ host: this.#host, stored: this.#stored }, request),
	});
	#stopping = false;
	/** Of the start that is under way, or the last one. */
	#warning: string | undefined;

	/** The caller holds the container's lock until `run` has ended. */
	constructor(stored: StoredContainer, host: ContainerHost, options: WatchOptions) {
		this.#stored = stored;
		this.#config = stored.reload().config;
		this.#host = host;
		this.#options = options;
		this.#state = { ...stored.state(), pid: process.pid, restartCount: 0, stoppedByUser: false };
		this.#ended = new Promise((resolve) => {
			this.#end = resolve;
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#teardown.run();
	}

	/** Runs the container to its end, however often its policy starts it again. */
	async run(): Promise<void> {
		const delay = new RestartDelay();
		let exitCode = 125;
		try {
			await this.#write({ error: undefined });
			await this.#listen();
			this.#options.onListening?.();
			for (;;) {
				const startedMs = Date.now();
				const end = await this.#runOnce();
				exitCode = end.exitCode;
				const again =
					end.started && !this.#stopping && mayRestart(this.#restartPolicy(), exitCode, this.#state.restartCount);
				await this.#note({
					status: again ? "restarting" : this.#state.startedAt !== "" ? "exited" : "created",
					exitCode,
					error: end.error === undefined ? undefined : failureOf(end.error, "ERR_CONTAINER_FAILED"),
					finishedAt: end.started ? new Date().toISOString() : this.#state.finishedAt,
				});
				if (!again) {
					await this.#attach?.failed(end.error);
					this.#options.onReady(end.error);
					break;
				}
				await sleep(delay.next(Date.now() - startedMs), undefined, { signal: this.#abort.signal }).catch(
					() => undefined,
				);
				if (this.#stopping) {
					await this.#write({ status: "exited" });
					break;
				}
				await this.#write({ restartCount: this.#state.restartCount + 1 });
			}
		} catch (error) {
			this.#options.onReady(error);
			throw error;
		} finally {
			if (this.#config.autoRemove) await this.#stored.erase({ volumes: true });
			else await this.#note({ pid: 0 });
			this.#options.notes?.end();
			this.#end(exitCode);
		}
	}

	/** As `update` has left it. */
	#restartPolicy(): ContainerConfig["restart"] {
		try {
			return this.#stored.reload().config.restart;
		} catch {
			return this.#config.restart;
		}
	}

	async #runOnce(): Promise<RunEnd> {
		let started = false;
		this.#warning = undefined;
		try {
			const { signal } = this.#abort;
			const timeline = this.#options.timings === true ? new Timeline() : undefined;
			timeline?.add(processMarks("supervisor "));
			timeline?.mark("supervisor");
			const container = await this.#start(signal, timeline);
			this.#container = container;
			const { logDriver, logOptions = {} } = this.#config;
			const { log: logPath } = this.#stored.paths;
			const openLog = () => LogFile.open(logPath, readLogLimits(logOptions));
			const log = logDriver === "none" ? undefined : await writingState(openLog);
			try {
				const startedAt = new Date().toISOString();
				const times = { startedAt, finishedAt: "", marks: timeline && [...timeline.marks] };
				await this.#write({ status: "running", ...times, warning: this.#warning, ...this.#networkState() });
				started = true;
				this.#stored.record("start");
				/* After the state: who is told that it runs finds it running. */
				this.#attach?.started({
					write: (bytes) => new Promise((resolve) => container.stdin.write(bytes, () => resolve())),
					endInput: () => container.stdin.end(),
					signal: (number, group) => container.kill(number, { group }),
					resize: (columns, rows) => container.resize(columns, rows),
				});
				this.#options.onReady();
				const checks = new AbortController();
				void this.#watchHealth(container, checks.signal);
				const pumps = [this.#pump("stdout", container.stdout, log), this.#pump("stderr", container.stderr, log)];
				const exit = await container.exit.finally(() => checks.abort());
				await Promise.all(pumps);
				await container.ended;
				/* Before its clients are told: what they ask next finds it ended. */
				await this.#note({ status: "exited", exitCode: exitStatus(exit), finishedAt: new Date().toISOString() });
				this.#recordEnd(exitStatus(exit));
				this.#options.notes?.end();
				await this.#attach?.ended(exit);
				return { exitCode: exitStatus(exit), started };
			} finally {
				await log?.close();
			}
		} catch (error) {
			/* Nobody would know of it. */
			await this.#container?.[Symbol.asyncDispose]();
			const exitCode = error instanceof TsvmmError ? error.exitStatus : 125;
			if (started) this.#recordEnd(exitCode);
			return { exitCode, error, started };
		} finally {
			this.#container = undefined;
		}
	}

	#recordEnd(exitCode: number): void {
		this.#stored.record("die", { exitCode: `${exitCode}` });
		if (this.#state.stoppedByUser) this.#stored.record("stop");
	}

	async #start(signal: AbortSignal, timeline: Timeline | undefined): Promise<Container> {
		const { args, env, cwd, user, tty, openStdin } = this.#config.process;
		const streams = () => {
			if (tty) return { tty: this.#attach?.terminalSize ?? { columns: 80, rows: 24 } };
			return openStdin ? {} : { stdin: "null" as const };
		};
		return await this.#host.start(this.#stored, {
			process: () => ({ args, env, cwd, user, ...privilegeKeys(this.#config.privileges), ...streams() }),
			awaited: this.#options.awaitAttach ? this.#attach!.firstClient : Promise.resolve(),
			signal,
			timeline,
			notes: this.#options.notes,
			debug: this.#state.restartCount === 0 ? this.#options.debug : undefined,
			warn: (message) => {
				this.#warning = message;
			},
		});
	}

	async #watchHealth(container: Container, signal: AbortSignal): Promise<void> {
		const { health: check } = this.#config;
		if (check === undefined) return;
		await this.#note({ health: { status: "starting", failingStreak: 0 } });
		await watchHealth(container, check, {
			isPaused: () => this.#state.status === "paused",
			onChange: (health) => void this.#note({ health }),
			signal,
		});
	}

	async #pump(name: OutputStream, from: Readable, log: LogFile | undefined): Promise<void> {
		for await (const chunk of from) {
			await Promise.all([log?.write(name, chunk as Buffer), this.#attach?.write(name, chunk as Buffer)]);
		}
	}

	async #listen(): Promise<void> {
		const { paths } = this.#stored;
		/* What a supervisor that was killed has left. */
		rmSync(paths.sockets, { recursive: true, force: true });
		mkdirSync(paths.sockets, { recursive: true, mode: 0o700 });
		chmodSync(paths.sockets, 0o700);
		this.#teardown.add(() => rmSync(paths.sockets, { recursive: true, force: true }));
		this.#teardown.add(await answerRequests(paths.control, (request) => this.#answer(request as ControlRequest)));
		const { openStdin, stdinOnce } = this.#config.process;
		this.#attach = await AttachServer.open(paths.attach, { openStdin, stdinOnce });
		this.#teardown.owns(this.#attach);
		this.#teardown.add(await serveAgent(paths.agent, () => this.#host.broker));
	}

	/** Stops the container, as a client that asks for it. */
	async stop(options: { timeoutMs?: number } = {}): Promise<void> {
		await this.#stop({ do: "stop", ...options });
	}

	async #answer(request: ControlRequest): Promise<ControlAnswer> {
		try {
			switch (request.do) {
				case "stop":
					return { exitCode: await this.#stop(request) };
				case "kill":
					await this.#kill(request.signal);
					return {};
				case "wait":
					return { exitCode: await this.#ended };
				case "pause":
					await this.#pause();
					return {};
				case "unpause":
					await this.#unpause();
					return {};
				case "memory": {
					const memory = await this.#host.memory?.();
					return memory === undefined ? {} : { memory };
				}
				case "snapshot":
				case "dump":
				case "explain":
				case "progress":
				case "cancel":
					return await this.#requests.answer(request);
				case "exec":
					await this.#execDetached(request);
					return {};
				case "connect":
					await this.#changeNetworks("connect", (networks) => networks.connect(request.attachment, this.#abort.signal));
					return {};
				case "disconnect":
					await this.#changeNetworks("disconnect", (networks) => networks.disconnect(request.network));
					return {};
				case "join":
					if (this.#container === undefined || this.#options.join === undefined) throw this.#notRunning("join");
					await this.#options.join(request.id, request.awaitAttach);
					return {};
			}
		} catch (error) {
			return { failure: failureOf(error, "ERR_CONTAINER_FAILED") };
		}
	}

	async #stop({ signal, timeoutMs = this.#config.stopTimeoutMs }: ControlRequest & { do: "stop" }): Promise<number> {
		this.#stopping = true;
		await this.#note({ stoppedByUser: true });
		if (this.#state.status === "paused") await this.#unpause();
		if (this.#container === undefined)
			this.#interrupt(new InterruptedError("start the container", constants.signals.SIGTERM));
		else {
			const container = this.#container;
			this.#stored.record("kill", { signal: `${signal ?? this.#config.stopSignal}` });
			/* A negative time-out has no end, as in Docker. */
			await container.stop({
				timeoutMs: timeoutMs < 0 ? Number.POSITIVE_INFINITY : timeoutMs,
				...(signal === undefined ? {} : { signal }),
			});
		}
		const drop = setTimeout(() => this.#attach?.dropClients(), SLOW_CLIENT_MS);
		const exitCode = await this.#ended;
		clearTimeout(drop);
		return exitCode;
	}

	async #kill(signal: number): Promise<void> {
		if (this.#container === undefined) throw this.#notRunning("kill");
		if (this.#state.status === "paused" && signal === SIGKILL) await this.#unpause();
		if (signal === SIGKILL || signal === this.#config.stopSignal) this.#stopping = true;
		this.#container.kill(signal);
		this.#stored.record("kill", { signal: `${signal}` });
	}

	async #pause(): Promise<void> {
		if (this.#container === undefined || this.#state.status !== "running") throw this.#notRunning("pause");
		await this.#host.pause(this.#stored);
		await this.#write({ status: "paused" });
		this.#stored.record("pause");
	}

	async #unpause(): Promise<void> {
		if (this.#container === undefined || this.#state.status !== "paused") {
			throw new StateError(
				"ERR_CONTAINER_NOT_PAUSED",
				`Cannot unpause container ${this.#stored.shortId}: it is not paused`,
			);
		}
		await this.#host.unpause(this.#stored);
		await this.#write({ status: "running" });
		this.#stored.record("unpause");
	}

	/** With `stop` the container is killed as soon as it is saved. */
	async #snapshot({ path, base, stop }: SnapshotRequest, watch: SnapshotWatch): Promise<void> {
		const { status } = this.#state;
		const isPaused = status === "paused";
		if (this.#container === undefined || (status !== "running" && !isPaused)) throw this.#notRunning("snapshot");
		const host = this.#host;
		if (host.snapshot === undefined) mustBeSavable(this.#stored);
		await host.snapshot?.(this.#stored, { path, base, isPaused, ...watch });
		this.#stored.record("checkpoint", { path });
		if (stop) await this.#kill(SIGKILL);
	}

	async #changeNetworks(attempt: string, change: (networks: MachineNetworks) => Promise<void>): Promise<void> {
		const { networks } = this.#host;
		if (networks === undefined || this.#state.status !== "running") throw this.#notRunning(attempt);
		try {
			await change(networks);
		} finally {
			await this.#write(this.#networkState());
		}
	}

	#networkState(): Pick<ContainerState, "endpoints" | "publishes"> {
		const { endpoints = [], publishes = true } = this.#host.networks ?? {};
		return { endpoints, publishes };
	}

	async #execDetached({ process: { tty, ...process } }: ControlRequest & { do: "exec" }): Promise<void> {
		if (this.#container === undefined || this.#state.status !== "running") throw this.#notRunning("run a command in");
		const streams = tty ? { tty: { columns: 80, rows: 24 } } : { stdin: "null" as const };
		const starting = this.#container.exec({ ...process, ...streams });
		const session = await recordExec(this.#stored, process.args, starting);
		session.stdout.destroy();
		session.stderr.destroy();
	}

	#notRunning(attempt: string): StateError {
		const { status } = this.#state;
		return new StateError(
			"ERR_CONTAINER_NOT_RUNNING",
			`Cannot ${attempt} container ${this.#stored.shortId}: it is ${status}`,
		);
	}

	#interrupt(reason: Error): void {
		this.#stopping = true;
		this.#abort.abort(reason);
	}

	/** Writes what has changed; in order, each change once. */
	async #write(change: Partial<ContainerState>): Promise<void> {
		this.#state = { ...this.#state, ...change };
		const { error, ...rest } = this.#state;
		const state = error === undefined ? rest : { ...rest, error };
		const written = this.#writing.then(() => writeState(this.#stored.paths, state));
		/* The next one may be written again. */
		this.#writing = written.catch(() => undefined);
		await written;
	}

	/** As #write, for what has happened whether it can be written or not. */
	async #note(change: Partial<ContainerState>): Promise<void> {
		await this.#write(change).catch((error: unknown) => {
			log("warn", `Cannot tell how container ${this.#stored.shortId} is: ${explain(error)}`);
		});
	}

	#writing: Promise<void> = Promise.resolve();
}

/*
 * A task of containerd's: a container in this process's machine, with the processes that were started in it later.
 */

import type { Session } from "../agent/session.ts";
import { type ExitStatus, exitStatus } from "../agent/session.ts";
import { explain, ignore } from "../base/errors.ts";
import { log } from "../base/log.ts";
import type { Bundle, Process } from "../oci/bundle.ts";
import { joinCgroups, rememberCgroups, removeCgroups } from "../oci/cgroups.ts";
import { ContainerProcess } from "../oci/container-process.ts";
import { checkProgram } from "../oci/find-program.ts";
import { runHooks } from "../oci/hooks.ts";
import { carry } from "../oci/payload.ts";
import { isCriSandbox } from "../oci/pod.ts";
import type { SandboxAccess } from "../oci/sandbox.ts";
import { standInChannel, startStandIn } from "../oci/stand-in.ts";
import { startProcess } from "../oci/start-process.ts";
import { hostProcess, NO_PROCESS, type OciContainer } from "../oci/state.ts";
import { type FifoPaths, type FifoStdio, fifoStdio } from "./fifo-stdio.ts";
import { Loopback } from "./loopback.ts";

/** How a process has ended. */
export interface Ended {
	status: number;
	atMs: number;
}

/** What tasks and further processes have in common. */
abstract class TaskProcess {
	readonly io: FifoPaths;
	/** How it has ended; undefined while it has not. */
	ended: Ended | undefined;
	readonly exit: Promise<Ended>;
	protected stdio: FifoStdio | undefined;
	private isInputClosed = false;
	protected settle!: (ended: Ended) => void;

	constructor(io: FifoPaths) {
		this.io = io;
		this.exit = new Promise((resolve) => {
			this.settle = (ended) => {
				this.ended ??= ended;
				resolve(this.ended);
			};
		});
	}

	protected finish(status: number): void {
		this.settle({ status, atMs: Date.now() });
	}

	abstract readonly pid: number;
	abstract readonly session: Session | undefined;

	resize(columns: number, rows: number): void {
		this.session?.resize(columns, rows);
	}

	/** Also before it was started. */
	closeInput(): void {
		this.isInputClosed = true;
		this.stdio?.closeInput();
	}

	/** Opens its streams. */
	protected open(): FifoStdio {
		this.stdio = fifoStdio(this.io);
		if (this.isInputClosed) this.stdio.closeInput();
		return this.stdio;
	}
}

export class Task extends TaskProcess {
	readonly container: OciContainer;
	readonly bundle: Bundle;
	readonly execs = new Map<string, ExecTask>();
	isPaused = false;
	#process!: ContainerProcess;
	#pid = 0;
	#cgroups: string[] = [];
	/** Takes this process out of the task's groups. */
	#leaveCgroups: () => void = () => undefined;

	/** @param container whose directory is not there yet */
	constructor(container: OciContainer, bundle: Bundle, io: FifoPaths) {
		super(io);
		this.container = container;
		this.bundle = bundle;
	}

	get pid(): number {
		return this.#pid;
	}

	get session(): Session | undefined {
		return this.#process.session;
	}

	get sandbox(): SandboxAccess | undefined {
		return this.#process.sandbox;
	}

	/** @param shared the machine that it is to be in; one of its own when missing */
	async create(shared: SandboxAccess | undefined): Promise<void> {
		const { container, bundle } = this;
		checkProgram(bundle);
		container.make();
		const { pid, channel } = await startStandIn(bundle);
		this.#pid = pid;
		/* The machine is counted with the task that has it. */
		if (shared === undefined) this.#leaveCgroups = rememberCgroups();
		this.#cgroups = joinCgroups(bundle.config, shared === undefined ? [pid, process.pid] : [pid]);
		container.write({
			...{ id: container.id, status: "creating", process: hostProcess(pid), machine: NO_PROCESS },
			...{ bundle: bundle.path, rootfs: bundle.rootfs, created: new Date().toISOString() },
			...{ annotations: bundle.config.annotations, sandbox: container.id, terminal: this.io.terminal },
			cgroups: this.#cgroups,
		});
		await new Promise<void>((resolve, reject) => {
			const onReady = (error?: unknown) => (error === undefined ? resolve() : reject(error as Error));
			const stdio = () => this.open();
			this.#process = new ContainerProcess(container, bundle, { stdio, sandbox: shared, onReady });
			const tell = standInChannel(() => this.#process.kill(), channel);
			this.#process
				.run()
				.then(exitStatus)
				.catch((error: unknown) => {
					reject(error as Error);
					return 255;
				})
				.then(async (status) => {
					await tell(status).catch(ignore);
					this.finish(status);
				});
		});
	}

	async start(): Promise<void> {
		const { config } = this.bundle;
		await this.#process.do({ do: "start" });
		if (isCriSandbox(config) && config.linux?.namespaces.some(({ type, path }) => type === "network" && path))
			await this.#openLoopback();
		await runHooks(config, "poststart", this.container.read());
	}

	/** A pod without it can do all but have its ports forwarded. */
	async #openLoopback(): Promise<void> {
		try {
			const loopback = await Loopback.open(this.sandbox!.client);
			void this.exit.then(() => loopback.close());
		} catch (error) {
			log("warn", `ports of the pod cannot be forwarded: ${explain(error)}`);
		}
	}

	async kill(signal: number, all: boolean): Promise<void> {
		await this.#process.do({ do: "kill", signal, all });
	}

	async pause(): Promise<void> {
		await this.#process.do({ do: "pause" });
		this.isPaused = true;
	}

	async resume(): Promise<void> {
		await this.#process.do({ do: "resume" });
		this.isPaused = false;
	}

	async update(resources: Parameters<ContainerProcess["do"]>[0] & { do: "update" }): Promise<void> {
		await this.#process.do(resources);
	}

	/** What is left of it goes. */
	async delete(): Promise<void> {
		this.#leaveCgroups();
		removeCgroups(this.#cgroups);
		const record = this.container.read();
		this.container.remove();
		await runHooks(this.bundle.config, "poststop", { ...record, status: "stopped" }).catch(ignore);
	}
}

/** One more process in a task's container. containerd knows it by a number of its own making. */
export class ExecTask extends TaskProcess {
	readonly id: string;
	readonly #task: Task;
	readonly #process: Process;
	#session: Session | undefined;

	constructor(task: Task, id: string, process: Process, io: FifoPaths) {
		super(io);
		this.#task = task;
		this.id = id;
		this.#process = process;
	}

	get pid(): number {
		return this.#session?.pid ?? 0;
	}

	get session(): Session | undefined {
		return this.#session;
	}

	async start(): Promise<void> {
		const stdio = this.open();
		try {
			const { container, sandbox } = this.#task;
			const process = { ...this.#process, terminal: this.io.terminal };
			this.#session = await startProcess(sandbox!.client, process, { container });
		} catch (error) {
			stdio.close();
			this.finish(255);
			throw error;
		}
		carry(this.#session, stdio)
			.then((exit: ExitStatus) => exitStatus(exit))
			.catch(() => 255)
			.then((status) => {
				stdio.close();
				this.finish(status);
			});
	}
}

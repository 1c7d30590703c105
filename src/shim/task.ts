/*
 * A task of containerd's: a container in this process's machine, with the processes that were started in it later. Each has
 * a stand-in on the host, whose number containerd knows (oci/stand-in.ts).
 */
import { constants } from "node:os";
import { type ExitStatus, exitStatus, type Session } from "../agent/session.ts";
import { explain, ignore } from "../base/errors.ts";
import { log } from "../base/log.ts";
import { Teardown } from "../base/teardown.ts";
import type { Bundle, Process, Resources } from "../oci/bundle.ts";
import { joinCgroups, rememberCgroups, removeCgroups } from "../oci/cgroups.ts";
import { ContainerProcess } from "../oci/container-process.ts";
import { checkProgram } from "../oci/find-program.ts";
import { runHooks } from "../oci/hooks.ts";
import { carry } from "../oci/payload.ts";
import { isCriSandbox } from "../oci/pod.ts";
import type { SandboxAccess } from "../oci/sandbox.ts";
import { type StandIn, standInChannel, startStandIn } from "../oci/stand-in.ts";
import { startProcess } from "../oci/start-process.ts";
import { type HostProcess, hasEnded, hostProcess, NO_PROCESS, type OciContainer } from "../oci/state.ts";
import { hasSystemd } from "../oci/systemd.ts";
import { type FifoPaths, type FifoStdio, fifoStdio, type TerminalSize } from "./fifo-stdio.ts";
import type { Logged } from "./log-program.ts";
import { Loopback } from "./loopback.ts";
import { allow, type Status } from "./refusals.ts";

/** How a process has ended. */
export interface Ended {
	status: number;
	atMs: number;
}

/** What one is said to have ended with that could not be followed to its end. */
const LOST = 255;

/** What tasks and further processes have in common. */
abstract class TaskProcess {
	readonly io: FifoPaths;
	readonly logged: Logged;
	/** Of its stand-in; 0 before that is there. */
	pid = 0;
	/** How it has ended; undefined while it has not. */
	ended: Ended | undefined;
	readonly exit: Promise<Ended>;
	/** Its start was asked for; and it runs. */
	protected isStarting = false;
	private isStarted = false;
	private stdio: FifoStdio | undefined;
	private size: TerminalSize | undefined;
	private isInputClosed = false;
	private settle!: (ended: Ended) => void;

	/** @param logged whose output it is, for a program that logs it */
	constructor(io: FifoPaths, logged: Logged) {
		this.io = io;
		this.logged = logged;
		this.exit = new Promise((resolve) => {
			this.settle = resolve;
		});
	}

	abstract readonly session: Session | undefined;

	get status(): Status {
		if (this.ended !== undefined) return "stopped";
		return this.isStarted ? "running" : "created";
	}

	/** @throws RpcError when its start was asked for already */
	protected beginStart(): void {
		allow("start", this.isStarting && this.ended === undefined ? "running" : this.status);
		this.isStarting = true;
	}

	/** Also before it was started. */
	resize(columns: number, rows: number): void {
		this.size = { columns, rows };
		if (this.stdio?.size !== undefined) this.stdio.size = this.size;
		this.session?.resize(columns, rows);
	}

	/** Its terminal gets the size that was told while it was being started. */
	protected started(): void {
		this.isStarted = true;
		if (this.size !== undefined) this.session?.resize(this.size.columns, this.size.rows);
	}

	/** Also before it was started. */
	closeInput(): void {
		this.isInputClosed = true;
		this.stdio?.closeInput();
	}

	/** Opens its streams. */
	protected open(): FifoStdio {
		this.stdio = fifoStdio(this.io, this.logged, this.size);
		if (this.isInputClosed) this.stdio.closeInput();
		return this.stdio;
	}

	/** Waits for its end, and tells the stand-in of it. */
	protected async follow(exit: Promise<ExitStatus>, tell: (status: number) => Promise<void>): Promise<void> {
		const status = await exit.then(exitStatus, () => LOST);
		await tell(status).catch(ignore);
		this.finish(status);
	}

	protected finish(status: number): void {
		this.ended ??= { status, atMs: Date.now() };
		this.settle(this.ended);
	}
}

export class Task extends TaskProcess {
	readonly container: OciContainer;
	readonly bundle: Bundle;
	readonly execs = new Map<string, ExecTask>();
	#process!: ContainerProcess;
	#isPaused = false;
	#cgroups: string[] = [];
	/** Takes this process out of the task's groups. */
	#leaveCgroups: () => void = () => undefined;
	readonly #standIns: HostProcess[] = [];

	/**
	 * @param container whose directory is not there yet
	 * @param namespace containerd's
	 */
	constructor(container: OciContainer, bundle: Bundle, io: FifoPaths, namespace: string) {
		super(io, { id: container.id, namespace });
		this.container = container;
		this.bundle = bundle;
	}

	get session(): Session | undefined {
		return this.#process.session;
	}

	override get status(): Status {
		return super.status === "running" && this.#isPaused ? "paused" : super.status;
	}

	/** Its machine, once that has booted. @throws why it has not */
	async machine(): Promise<SandboxAccess> {
		await this.#process.prepared;
		return this.#process.sandbox!;
	}

	/**
	 * Makes it. Nothing is left when that fails.
	 *
	 * @param shared the machine that it is to be in; one of its own when missing
	 */
	async create(shared: SandboxAccess | undefined): Promise<void> {
		const { container, bundle } = this;
		checkProgram(bundle);
		container.make();
		const undo = new Teardown();
		undo.add(() => container.remove());
		/* The machine is counted with the task that has it. */
		const counted = shared === undefined ? [process.pid] : [];
		if (shared === undefined) this.#leaveCgroups = rememberCgroups();
		try {
			undo.add(() => this.#removeCgroups());
			const standIn = await this.startStandIn(counted);
			this.pid = standIn.pid;
			undo.add(() => void standIn.channel.destroy());
			container.write({
				...{ id: container.id, status: "creating", process: hostProcess(this.pid), machine: NO_PROCESS },
				...{ bundle: bundle.path, rootfs: bundle.rootfs, created: new Date().toISOString() },
				...{ annotations: bundle.config.annotations, sandbox: container.id, terminal: this.io.terminal },
				cgroups: this.#cgroups,
			});
			await this.#open(standIn, shared);
		} catch (error) {
			await undo.run();
			throw error;
		}
	}

	/**
	 * A process of the host for the container, or for one more process in it.
	 *
	 * @param counted other processes that are counted with it
	 */
	async startStandIn(counted: readonly number[] = []): Promise<StandIn> {
		const { bundle } = this;
		const standIn = await startStandIn(bundle, this.pid === 0 ? undefined : this.pid);
		this.#standIns.push(hostProcess(standIn.pid));
		this.#cgroups = await joinCgroups(bundle.config, [standIn.pid, ...counted], hasSystemd());
		return standIn;
	}

	/** Resolves when it is created. */
	#open({ channel }: StandIn, shared: SandboxAccess | undefined): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#process = new ContainerProcess(this.container, this.bundle, {
				stdio: () => this.open(),
				sandbox: shared,
				onReady: () => resolve(),
			});
			const tell = standInChannel(() => this.#process.kill(), channel);
			const run = this.#process.run();
			run.catch(reject);
			void this.follow(run, tell);
		});
	}

	/** @throws RpcError when it was started already; why it cannot be */
	async start(): Promise<void> {
		const { config } = this.bundle;
		this.beginStart();
		await this.#process.do({ do: "start" });
		this.started();
		if (isCriSandbox(config) && config.linux?.namespaces.some(({ type, path }) => type === "network" && path))
			await this.#openLoopback();
		await runHooks(config, "poststart", this.container.read());
	}

	/** A pod without it can do all but have its ports forwarded. */
	async #openLoopback(): Promise<void> {
		try {
			const { client } = await this.machine();
			const loopback = await Loopback.open(client);
			void this.exit.then(() => loopback.close());
		} catch (error) {
			log("warn", `ports of the pod cannot be forwarded: ${explain(error)}`);
		}
	}

	async kill(signal: number, all: boolean): Promise<void> {
		await this.#process.do({ do: "kill", signal, all });
	}

	async pause(): Promise<void> {
		allow("pause", this.status);
		await this.#process.do({ do: "pause" });
		this.#isPaused = true;
	}

	async resume(): Promise<void> {
		allow("resume", this.status);
		await this.#process.do({ do: "resume" });
		this.#isPaused = false;
	}

	async update(resources: Resources): Promise<void> {
		allow("update", this.status);
		await this.#process.do({ do: "update", resources });
	}

	/** What is left of it goes; one that was never started is ended. */
	async delete(): Promise<void> {
		allow("delete", this.status);
		if (this.ended === undefined) {
			this.#process.kill();
			await this.exit;
		}
		const record = this.container.read();
		await this.#removeCgroups();
		this.container.remove();
		await runHooks(this.bundle.config, "poststop", { ...record, status: "stopped" }).catch(ignore);
	}

	/** Once the stand-ins have left them. */
	async #removeCgroups(): Promise<void> {
		this.#leaveCgroups();
		await Promise.all(this.#standIns.map(hasEnded));
		removeCgroups(this.#cgroups);
	}
}

/** One more process in a task's container. */
export class ExecTask extends TaskProcess {
	readonly id: string;
	readonly #task: Task;
	readonly #process: Process;
	#session: Session | undefined;

	/** @throws RpcError when the task can have none now */
	constructor(task: Task, id: string, process: Process, io: FifoPaths) {
		super(io, { ...task.logged, id });
		allow("exec", task.status);
		this.#task = task;
		this.id = id;
		this.#process = process;
	}

	get session(): Session | undefined {
		return this.#session;
	}

	/** @throws RpcError when it was started already, or the task can have none now; why it cannot be */
	async start(): Promise<void> {
		this.beginStart();
		allow("exec", this.#task.status);
		const undo = new Teardown();
		try {
			const { pid, channel } = await this.#task.startStandIn();
			this.pid = pid;
			undo.add(() => void channel.destroy());
			const stdio = undo.owns(this.open());
			const { client } = await this.#task.machine();
			const process = { ...this.#process, terminal: this.io.terminal };
			const session = await startProcess(client, process, { container: this.#task.container, size: stdio.size });
			this.#session = session;
			const tell = standInChannel(() => session.signal(constants.signals.SIGKILL), channel);
			const exit = carry(session, stdio).finally(() => stdio.close());
			this.started();
			void this.follow(exit, tell);
		} catch (error) {
			await undo.run();
			this.finish(LOST);
			throw error;
		}
	}

	/** @throws RpcError when it runs */
	delete(): void {
		allow("delete", this.status);
		this.#task.execs.delete(this.id);
	}
}

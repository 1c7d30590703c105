/*
 * The process that has a container's machine, or is in another container's. When the payload has ended, the stand-in on
 * the host is told how (stand-in.ts).
 *
 *     create: config.json -> hooks -> machine opened -> "created"       the machine boots while the caller works on
 *     start:  booted and set up -> startContainer hooks -> EXEC -> "running" -> EXIT -> "stopped"
 */
import { constants } from "node:os";
import type { ExitStatus, Session } from "../agent/session.ts";
import { ignore } from "../base/errors.ts";
import { Teardown } from "../base/teardown.ts";
import { answerRequests, failureOf } from "../host/request-socket.ts";
import type { Bundle } from "./bundle.ts";
import { runInContainer } from "./container-hooks.ts";
import type { ControlAnswer, ControlRequest } from "./control.ts";
import { freeze, limit, signalAll } from "./group.ts";
import { runHooks } from "./hooks.ts";
import { sandboxNetwork } from "./network.ts";
import { carry, type PayloadStdio } from "./payload.ts";
import { sandboxOf } from "./pod.ts";
import { machineSize } from "./resources.ts";
import { OciError } from "./runtime-error.ts";
import { RemoteSandbox, Sandbox, type SandboxAccess } from "./sandbox.ts";
import { compileSeccomp } from "./seccomp.ts";
import { sharedMemoryOf } from "./shared-memory.ts";
import { startProcess } from "./start-process.ts";
import { type ContainerRecord, hostProcess, NO_PROCESS, type OciContainer } from "./state.ts";
import { type System, systemOf } from "./system.ts";

export interface ContainerProcessOptions {
	/** Opens the payload's streams, which are closed with the container. */
	stdio: () => PayloadStdio;
	/** The machine of the pod that the container is in, where this process has it. */
	sandbox?: SandboxAccess | undefined;
	/** Called when it is created, or with why it is not; the first call counts. */
	onReady: (error?: unknown) => void;
	/** Called when it has ended and its machine goes on for others; without it the machine ends with the container. */
	onLend?: (exit: ExitStatus) => Promise<void>;
}

const { SIGCHLD, SIGCONT, SIGURG, SIGWINCH } = constants.signals;
/** What does not end a process that has no handler for it. */
const HARMLESS: ReadonlySet<number> = new Set([SIGCHLD, SIGCONT, SIGURG, SIGWINCH]);

export class ContainerProcess {
	readonly #container: OciContainer;
	readonly #bundle: Bundle;
	readonly #options: ContainerProcessOptions;
	readonly #system: System;
	readonly #teardown = new Teardown();
	/** Ends what others reach it by; each may be called twice. */
	readonly #doors: (() => void | Promise<void>)[] = [];
	readonly #exit: Promise<ExitStatus>;
	#end!: (exit: ExitStatus) => void;
	#fail!: (error: unknown) => void;
	#record: ContainerRecord;
	#stdio: PayloadStdio | undefined;
	#sandbox: SandboxAccess | undefined;
	/** Resolves when the container's system is there, and only its process is missing. */
	#prepared: Promise<void> = Promise.resolve();
	#session: Session | undefined;
	#isLent = false;

	/** @param record as `create` has begun it */
	constructor(container: OciContainer, bundle: Bundle, options: ContainerProcessOptions) {
		this.#container = container;
		this.#bundle = bundle;
		this.#options = options;
		this.#system = systemOf(container, bundle);
		const record = container.read();
		const machine = hostProcess(process.pid);
		this.#record = { ...record, machine, process: record.process.pid === 0 ? machine : record.process };
		this.#exit = new Promise((resolve, reject) => {
			this.#end = resolve;
			this.#fail = reject;
		});
		this.#exit.catch(ignore);
	}

	/** The machine, once the container is created. */
	get sandbox(): SandboxAccess | undefined {
		return this.#sandbox;
	}

	/** Resolves when its machine has booted and its system is there. */
	get prepared(): Promise<void> {
		return this.#prepared;
	}

	/** The payload, once it was started. */
	get session(): Session | undefined {
		return this.#session;
	}

	/** Ends the container at once. */
	kill(): void {
		this.#end({ signal: constants.signals.SIGKILL });
	}

	/** Runs the container to its end. @throws why it could not be created, or what has ended its machine */
	async run(): Promise<ExitStatus> {
		try {
			await this.#create();
			const exit = await this.#exit;
			await this.#lend(exit);
			return exit;
		} finally {
			await this.#teardown.run();
			/* Another container may have the directory of one that has lent its machine. */
			if (!this.#isLent) this.#write("stopped");
		}
	}

	/** Lets the pod's other containers go on in this one's machine until the last has left it, as runc's would. */
	async #lend(exit: ExitStatus): Promise<void> {
		const { onLend } = this.#options;
		const sandbox = this.#sandbox;
		if (onLend === undefined || !(sandbox instanceof Sandbox) || !sandbox.isShared) return;
		for (const close of this.#doors) await close();
		await this.#leave(sandbox);
		this.#stdio?.close();
		this.#record = { ...this.#record, machine: NO_PROCESS };
		this.#write("stopped");
		this.#isLent = true;
		await onLend(exit);
		await sandbox.unshared();
	}

	/** Registers what ends a way to reach it. */
	#addDoor(close: () => void | Promise<void>): void {
		this.#doors.push(close);
		this.#teardown.add(close);
	}

	async #create(): Promise<void> {
		const { config } = this.#bundle;
		const seccomp = config.linux?.seccomp;
		if (seccomp !== undefined) this.#container.writeFilter(compileSeccomp(seccomp));
		for (const kind of ["prestart", "createRuntime", "createContainer"] as const)
			await runHooks(config, kind, this.#record);
		this.#stdio = this.#options.stdio();
		this.#teardown.add(() => this.#stdio?.close());
		const boot = await this.#open();
		this.#addDoor(await answerRequests(this.#container.control, (request) => this.#answer(request as ControlRequest)));
		this.#prepared = boot().then(() => this.#prepare());
		this.#prepared.catch(ignore);
		this.#write("created");
		this.#options.onReady();
	}

	/** The machine, or the one of the pod. @returns what boots it */
	async #open(): Promise<() => Promise<void>> {
		const { sandbox: shared } = this.#options;
		if (shared !== undefined) {
			this.#teardown.add(() => this.#leave(shared));
			this.#sandbox = shared;
			return () => Promise.resolve();
		}
		const owner = sandboxOf(this.#container, this.#bundle.config);
		if (owner !== undefined) {
			const remote = await RemoteSandbox.connect(this.#container.sibling(owner));
			this.#teardown.add(() => remote.close());
			this.#teardown.add(() => this.#leave(remote));
			this.#sandbox = remote;
			this.#record.sandbox = owner;
			return () => Promise.resolve();
		}
		const network = await sandboxNetwork(this.#bundle.config, this.#teardown);
		const { config } = this.#bundle;
		const memory = sharedMemoryOf(config.mounts);
		const sandbox = await Sandbox.open({ ...machineSize(config), networks: network.devices, memory });
		this.#teardown.add(() => sandbox.stop());
		this.#sandbox = sandbox;
		this.#addDoor(await sandbox.serveAgent(this.#container.agent));
		return async () => {
			await sandbox.boot();
			await network.configure(sandbox.client);
		};
	}

	async #prepare(): Promise<void> {
		const { shares, steps } = this.#system;
		await this.#sandbox!.share(shares);
		await this.#sandbox!.client.setup(steps, this.#container.agentName);
		void this.#sandbox!.ended.then(() => this.#lost());
	}

	/** Takes the container out of a machine that goes on. */
	async #leave(sandbox: SandboxAccess): Promise<void> {
		await sandbox.client.remove(this.#container.agentName).catch(ignore);
		await sandbox.unshare(this.#system.shares.map(({ name }) => name));
	}

	#lost(): void {
		this.#fail(new OciError("ERR_OCI_SANDBOX", "the container's machine has ended"));
	}

	async #answer(request: ControlRequest): Promise<ControlAnswer> {
		try {
			await this.do(request);
			return {};
		} catch (error) {
			return { failure: failureOf(error, "ERR_OCI_FAILED") };
		}
	}

	/** What a command asks for. @throws why it cannot be done */
	async do(request: ControlRequest): Promise<void> {
		const sandbox = this.#sandbox!;
		const { agentName } = this.#container;
		switch (request.do) {
			case "start":
				return await this.#start();
			case "kill":
				return await this.#kill(request.signal, request.all);
			case "pause":
				await this.#prepared;
				await freeze(sandbox.client, agentName, true);
				return this.#write("paused");
			case "resume":
				await freeze(sandbox.client, agentName, false);
				return this.#write("running");
			case "update":
				await this.#prepared;
				return await limit(sandbox.client, agentName, request.resources);
			case "share":
				return await sandbox.share(request.shares);
			case "unshare":
				return await sandbox.unshare(request.names);
		}
	}

	/** Starts the payload. When that fails, this process ends with 1, as runc's does. */
	async #start(): Promise<void> {
		if (this.#session !== undefined) throw new OciError("ERR_OCI_RUNNING", "cannot start an already running container");
		try {
			await this.#prepared;
			const { size } = this.#stdio!;
			const { client } = this.#sandbox!;
			const inContainer = runInContainer(client, this.#container.agentName);
			await runHooks(this.#bundle.config, "startContainer", this.#record, inContainer);
			const where = { container: this.#container, init: true, size };
			this.#session = await startProcess(client, this.#bundle.process, where);
		} catch (error) {
			setImmediate(() => this.#end({ code: 1 }));
			throw error;
		}
		this.#write("running");
		carry(this.#session, this.#stdio!).then(this.#end, this.#fail);
	}

	async #kill(signal: number, all: boolean): Promise<void> {
		if (this.#session === undefined) {
			/* The answer goes out first. */
			if (!HARMLESS.has(signal)) setImmediate(() => this.#end({ signal }));
			return;
		}
		if (all) await signalAll(this.#sandbox!.client, this.#container.agentName, signal);
		else this.#session.signal(signal);
	}

	#write(status: ContainerRecord["status"]): void {
		this.#record = { ...this.#record, status };
		this.#container.write(this.#record);
	}
}

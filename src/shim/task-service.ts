/*
 * The Task service (containerd api/runtime/task), one method for each of its own: messages to tasks, and their events.
 */

import { explain, ignore } from "../base/errors.ts";
import type * as z from "../base/schema.ts";
import { Process, parse, Resources, readBundle } from "../oci/bundle.ts";
import { OciError } from "../oci/runtime-error.ts";
import { OciContainer } from "../oci/state.ts";
import type { EventPublisher } from "./events.ts";
import { decode, encode, type Message, timestamp } from "./messages.ts";
import { metricsOf } from "./metrics.ts";
import { mountRootfs, type RootfsMount, unmountRootfs } from "./rootfs.ts";
import { ExecTask, Task } from "./task.ts";
import { CODE, type Method, RpcError } from "./ttrpc.ts";

interface Io {
	terminal: boolean;
	stdin: string;
	stdout: string;
	stderr: string;
}

interface AnyMessage {
	value: Uint8Array;
}

type Request = { id: string; exec_id: string };
type CreateRequest = Io & { id: string; bundle: string; rootfs: RootfsMount[] };
type ExecRequest = Request & Io & { spec: AnyMessage | null };
type KillRequest = Request & { signal: number; all: boolean };
type ResizeRequest = Request & { width: number; height: number };
type CloseRequest = Request & { stdin: boolean };
type UpdateRequest = { id: string; resources: AnyMessage | null };
type AnyProcess = Task | ExecTask;

/** containerd.v1.types.Status */
const STATUS = { created: 1, running: 2, stopped: 3, paused: 4 } as const;
const SERVICES = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
/** Of failures; the others are unknown. */
const CODES: Readonly<Record<string, number>> = {
	ERR_OCI_EXISTS: CODE.alreadyExists,
	ERR_OCI_STOPPED: CODE.notFound,
};
const NOTHING = encode("Empty", {});

export class TaskService {
	readonly #root: string;
	readonly #events: EventPublisher;
	readonly #tasks = new Map<string, Task>();
	/** Resolves when the last Create is answered. */
	#creating: Promise<unknown> = Promise.resolve();
	/** Resolve when containerd was told of a process's start, and of its end. */
	readonly #startTold = new WeakMap<AnyProcess, Promise<unknown>>();
	readonly #endTold = new WeakMap<AnyProcess, Promise<unknown>>();
	/** Resolves when containerd has let go of the shim. */
	readonly shutdown: Promise<void>;
	#end!: () => void;

	/** @param root where the state of containers is kept */
	constructor(root: string, events: EventPublisher) {
		this.#root = root;
		this.#events = events;
		this.shutdown = new Promise((resolve) => {
			this.#end = resolve;
		});
	}

	/** By "service/method", for both versions of the service. */
	get methods(): Record<string, Method> {
		const own: Record<string, Method> = {
			Create: method("CreateTaskRequest", (request: CreateRequest) => this.#create(request)),
			Start: method("ProcessRequest", (request: Request) => this.#start(request)),
			Delete: method("ProcessRequest", (request: Request) => this.#delete(request)),
			Exec: method("ExecProcessRequest", (request: ExecRequest) => this.#exec(request)),
			State: method("ProcessRequest", (request: Request) => this.#state(request)),
			Wait: method("ProcessRequest", (request: Request) => this.#wait(request)),
			Kill: method("KillRequest", (request: KillRequest) => this.#kill(request)),
			Pause: method("ProcessRequest", (request: Request) => this.#pause(request)),
			Resume: method("ProcessRequest", (request: Request) => this.#resume(request)),
			ResizePty: method("ResizePtyRequest", (request: ResizeRequest) => this.#resize(request)),
			CloseIO: method("CloseIORequest", (request: CloseRequest) => this.#closeInput(request)),
			Pids: method("ProcessRequest", (request: Request) => this.#pids(request)),
			Update: method("UpdateTaskRequest", (request: UpdateRequest) => this.#update(request)),
			Stats: method("ProcessRequest", (request: Request) => this.#stats(request)),
			Connect: method("ProcessRequest", (request: Request) => this.#connect(request)),
			Shutdown: method("ShutdownRequest", (request: { now: boolean }) => this.#shutdown(request)),
			Checkpoint: () => Promise.reject(new RpcError(CODE.unimplemented, "checkpoints are not implemented")),
		};
		return Object.fromEntries(
			SERVICES.flatMap((service) => Object.entries(own).map(([name, method]) => [`${service}/${name}`, method])),
		);
	}

	/** One after the other: the second container of a pod needs the machine of the first. */
	#create(request: CreateRequest): Promise<Uint8Array> {
		const created = this.#creating.then(() => failing("create", () => this.#make(request)));
		this.#creating = created.catch(ignore);
		return created;
	}

	async #make({ id, bundle: directory, rootfs, terminal, stdin, stdout, stderr }: CreateRequest): Promise<Uint8Array> {
		if (this.#tasks.has(id)) throw new RpcError(CODE.alreadyExists, `task ${id}: already exists`);
		const target = `${directory}/rootfs`;
		await mountRootfs(target, rootfs);
		const io = { terminal, stdin, stdout, stderr };
		try {
			const task = new Task(new OciContainer(this.#root, id), readBundle(directory), io, this.#events.namespace);
			const [first] = this.#tasks.values();
			await task.create(await first?.machine());
			this.#tasks.set(id, task);
			const { pid } = task;
			this.#events.publish("TaskCreate", { container_id: id, bundle: directory, rootfs, io, pid });
			this.#tellEnd(task, { id, exec_id: "" });
			return encode("PidResponse", { pid });
		} catch (error) {
			await unmountRootfs(target);
			throw error;
		}
	}

	async #start(request: Request): Promise<Uint8Array> {
		const { id: container_id, exec_id } = request;
		const process = this.#process(request);
		const isTask = process instanceof Task;
		const started = failing(isTask ? "start" : "exec", () => process.start());
		const told = started.then(() => {
			const { pid } = process;
			if (isTask) this.#events.publish("TaskStart", { container_id, pid });
			else this.#events.publish("TaskExecStarted", { container_id, exec_id, pid });
		});
		this.#startTold.set(process, told.catch(ignore));
		await told;
		if (!isTask) this.#tellEnd(process, request);
		return encode("PidResponse", { pid: process.pid });
	}

	/** When it has ended, but not before its start is told. */
	#tellEnd(process: AnyProcess, { id: container_id, exec_id }: Request): void {
		const told = process.exit.then(async ({ status: exit_status, atMs }) => {
			await this.#startTold.get(process);
			if (exec_id === "" && process.session?.outOfMemory) this.#events.publish("TaskOOM", { container_id });
			const [id, pid, exited_at] = [exec_id || container_id, process.pid, timestamp(atMs)];
			this.#events.publish("TaskExit", { container_id, id, pid, exit_status, exited_at });
		});
		this.#endTold.set(process, told);
	}

	async #delete(request: Request): Promise<Uint8Array> {
		const process = this.#process(request);
		const { id: container_id } = request;
		const { pid } = process;
		const { status: exit_status, atMs } = process.ended ?? { status: 0, atMs: Date.now() };
		const exited_at = timestamp(atMs);
		await process.delete();
		await this.#endTold.get(process);
		if (process instanceof Task) {
			await unmountRootfs(`${process.bundle.path}/rootfs`);
			this.#tasks.delete(container_id);
			this.#events.publish("TaskDelete", { container_id, pid, exit_status, exited_at });
		}
		return encode("DeleteResponse", { pid, exit_status, exited_at });
	}

	async #exec({ id, exec_id, spec, terminal, stdin, stdout, stderr }: ExecRequest): Promise<Uint8Array> {
		const task = this.#task(id);
		if (task.execs.has(exec_id)) throw new RpcError(CODE.alreadyExists, `id ${exec_id}: already exists`);
		const process = jsonOf(Process, spec);
		task.execs.set(exec_id, new ExecTask(task, exec_id, process, { terminal, stdin, stdout, stderr }));
		this.#events.publish("TaskExecAdded", { container_id: id, exec_id });
		return NOTHING;
	}

	async #state({ id, exec_id }: Request): Promise<Uint8Array> {
		const { ended, status, io, pid } = this.#process({ id, exec_id });
		return encode("StateResponse", {
			...{ id, exec_id, bundle: this.#task(id).bundle.path, pid, ...io },
			status: STATUS[status],
			...(ended === undefined ? {} : { exit_status: ended.status, exited_at: timestamp(ended.atMs) }),
		});
	}

	async #wait(request: Request): Promise<Uint8Array> {
		const { status, atMs } = await this.#process(request).exit;
		return encode("WaitResponse", { exit_status: status, exited_at: timestamp(atMs) });
	}

	async #kill({ id, exec_id, signal, all }: KillRequest): Promise<Uint8Array> {
		const process = this.#process({ id, exec_id });
		if (process.ended !== undefined) throw new RpcError(CODE.notFound, "process already finished");
		if (process instanceof Task) await process.kill(signal, all);
		else if (process.session === undefined) throw new RpcError(CODE.failedPrecondition, "process not created");
		else process.session.signal(signal);
		return NOTHING;
	}

	async #pause({ id }: Request): Promise<Uint8Array> {
		await failing("pause", () => this.#task(id).pause());
		this.#events.publish("TaskPaused", { container_id: id });
		return NOTHING;
	}

	async #resume({ id }: Request): Promise<Uint8Array> {
		await failing("resume", () => this.#task(id).resume());
		this.#events.publish("TaskResumed", { container_id: id });
		return NOTHING;
	}

	async #resize({ width, height, ...request }: ResizeRequest): Promise<Uint8Array> {
		this.#process(request).resize(width, height);
		return NOTHING;
	}

	async #closeInput({ stdin, ...request }: CloseRequest): Promise<Uint8Array> {
		const process = this.#process(request);
		if (stdin) process.closeInput();
		return NOTHING;
	}

	/** Of the stand-ins: the guest has numbers of its own. */
	async #pids({ id }: Request): Promise<Uint8Array> {
		const task = this.#task(id);
		const execs = [...task.execs.values()].filter(({ status }) => status === "running");
		const own = task.ended === undefined ? [{ pid: task.pid }] : [];
		const others = execs.map(({ pid, id: exec_id }) => ({ pid, info: detailsOf(exec_id) }));
		return encode("PidsResponse", { processes: [...own, ...others] });
	}

	async #update({ id, resources }: UpdateRequest): Promise<Uint8Array> {
		const task = this.#task(id);
		const limits = jsonOf(Resources, resources);
		await failing("update", () => task.update(limits));
		return NOTHING;
	}

	async #stats({ id }: Request): Promise<Uint8Array> {
		const task = this.#task(id);
		if (task.ended !== undefined) throw new RpcError(CODE.notFound, "cgroup does not exist");
		const { client } = await task.machine();
		return encode("StatsResponse", { stats: await metricsOf(client, task.container.agentName) });
	}

	async #connect({ id }: Request): Promise<Uint8Array> {
		return encode("ConnectResponse", { shim_pid: process.pid, task_pid: this.#tasks.get(id)?.pid ?? 0 });
	}

	async #shutdown({ now }: { now: boolean }): Promise<Uint8Array> {
		if (this.#tasks.size === 0 || now) setImmediate(() => this.#end());
		return NOTHING;
	}

	#task(id: string): Task {
		const task = this.#tasks.get(id);
		if (task === undefined) throw new RpcError(CODE.notFound, "container not created");
		return task;
	}

	#process({ id, exec_id }: Request): AnyProcess {
		const task = this.#task(id);
		if (exec_id === "") return task;
		const exec = task.execs.get(exec_id);
		if (exec === undefined) throw new RpcError(CODE.notFound, `process does not exist ${exec_id}: not found`);
		return exec;
	}
}

/** A method whose request is a message. */
function method<T>(message: string, answer: (request: T) => Promise<Uint8Array>): Method {
	return async (payload) => {
		let request: T;
		try {
			request = decode<T>(message, payload);
		} catch (error) {
			throw new RpcError(CODE.invalidArgument, `${message}: ${explain(error)}`);
		}
		return await answer(request);
	};
}

/** What an Any holds, which is JSON for what the runtime-spec describes. @throws RpcError */
function jsonOf<T extends z.ZodType>(schema: T, any: AnyMessage | null): z.infer<T> {
	try {
		return parse(schema, Buffer.from(any?.value ?? []).toString());
	} catch (error) {
		throw new RpcError(CODE.invalidArgument, explain(error));
	}
}

/** Runs what containerd's shim for runc has runc do. @throws RpcError in its words */
async function failing<T>(verb: string, work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		if (error instanceof RpcError) throw error;
		const code = error instanceof OciError ? CODES[error.code] : undefined;
		const what = verb === "exec" ? "exec failed" : `tsvmm-oci ${verb} failed`;
		throw new RpcError(code ?? CODE.unknown, `OCI runtime ${verb} failed: ${what}: ${explain(error)}`);
	}
}

function detailsOf(exec_id: string): Message {
	return { type_url: "containerd.runc.v1.ProcessDetails", value: encode("ProcessDetails", { exec_id }) };
}

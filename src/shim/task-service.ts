/*
 * The Task service (containerd api/runtime/task), one method for each of its own: messages to tasks, and their events.
 */
import { ignore } from "../base/errors.ts";
import { containerUsage } from "../container/usage.ts";
import { run } from "../host/command.ts";
import { Process, parse, Resources, readBundle } from "../oci/bundle.ts";
import { OciError } from "../oci/runtime-error.ts";
import { OciContainer } from "../oci/state.ts";
import type { EventPublisher } from "./events.ts";
import { decode, encode, type Message, timestamp } from "./messages.ts";
import { ExecTask, Task } from "./task.ts";
import { CODE, type Method, RpcError } from "./ttrpc.ts";

interface MountMessage {
	type: string;
	source: string;
	options: string[];
}

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

/** containerd.v1.types.Status */
const STATUS = { created: 1, running: 2, stopped: 3, paused: 4 } as const;
const SERVICES = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
const NOTHING = encode("Empty", {});

export class TaskService {
	readonly #root: string;
	readonly #events: EventPublisher;
	readonly #tasks = new Map<string, Task>();
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
			Create: (payload) => this.#create(decode("CreateTaskRequest", payload)),
			Start: (payload) => this.#start(decode("ProcessRequest", payload)),
			Delete: (payload) => this.#delete(decode("ProcessRequest", payload)),
			Exec: (payload) => this.#exec(decode("ExecProcessRequest", payload)),
			State: (payload) => this.#state(decode("ProcessRequest", payload)),
			Wait: (payload) => this.#wait(decode("ProcessRequest", payload)),
			Kill: (payload) => this.#kill(decode("KillRequest", payload)),
			Pause: (payload) => this.#pause(decode("ProcessRequest", payload), true),
			Resume: (payload) => this.#pause(decode("ProcessRequest", payload), false),
			ResizePty: (payload) => this.#resize(decode("ResizePtyRequest", payload)),
			CloseIO: (payload) => this.#closeInput(decode("CloseIORequest", payload)),
			Pids: (payload) => this.#pids(decode("ProcessRequest", payload)),
			Update: (payload) => this.#update(decode("UpdateTaskRequest", payload)),
			Stats: (payload) => this.#stats(decode("ProcessRequest", payload)),
			Connect: (payload) => this.#connect(decode("ProcessRequest", payload)),
			Shutdown: (payload) => this.#shutdown(decode("ShutdownRequest", payload)),
			Checkpoint: () => Promise.reject(new RpcError(CODE.unimplemented, "checkpoints are not implemented")),
		};
		return Object.fromEntries(
			SERVICES.flatMap((service) =>
				Object.entries(own).map(([name, method]) => [`${service}/${name}`, (payload) => coded(method(payload))]),
			),
		);
	}

	async #create(request: Io & { id: string; bundle: string; rootfs: MountMessage[] }): Promise<Uint8Array> {
		const { id, bundle: directory, rootfs, terminal, stdin, stdout, stderr } = request;
		if (this.#tasks.has(id)) throw new RpcError(CODE.alreadyExists, `task ${id}: already exists`);
		const target = `${directory}/rootfs`;
		for (const mount of rootfs) await mountOn(target, mount);
		const io = { terminal, stdin, stdout, stderr };
		try {
			const task = new Task(new OciContainer(this.#root, id), readBundle(directory), io);
			/* The first one has the machine of the pod. */
			const [first] = this.#tasks.values();
			await task.create(first?.sandbox);
			this.#tasks.set(id, task);
			this.#events.publish("TaskCreate", { container_id: id, bundle: directory, rootfs, io, pid: task.pid });
			void task.exit.then(({ status, atMs }) => {
				if (task.session?.outOfMemory) this.#events.publish("TaskOOM", { container_id: id });
				this.#events.publish("TaskExit", {
					...{ container_id: id, id, pid: task.pid },
					...{ exit_status: status, exited_at: timestamp(atMs) },
				});
			});
			return encode("PidResponse", { pid: task.pid });
		} catch (error) {
			new OciContainer(this.#root, id).remove();
			for (const _ of rootfs) await unmount(target);
			throw error;
		}
	}

	async #start({ id, exec_id }: Request): Promise<Uint8Array> {
		const task = this.#task(id);
		if (exec_id === "") {
			await task.start();
			this.#events.publish("TaskStart", { container_id: id, pid: task.pid });
			return encode("PidResponse", { pid: task.pid });
		}
		const exec = this.#process({ id, exec_id }) as ExecTask;
		await exec.start();
		const { pid } = exec;
		this.#events.publish("TaskExecStarted", { container_id: id, exec_id, pid });
		void exec.exit.then(({ status, atMs }) =>
			this.#events.publish("TaskExit", {
				...{ container_id: id, id: exec_id, pid },
				...{ exit_status: status, exited_at: timestamp(atMs) },
			}),
		);
		return encode("PidResponse", { pid });
	}

	async #delete({ id, exec_id }: Request): Promise<Uint8Array> {
		const process = this.#process({ id, exec_id });
		const { ended, pid } = process;
		if (ended === undefined && process instanceof Task && process.session !== undefined)
			throw new RpcError(CODE.failedPrecondition, "process is not stopped");
		const { status, atMs } = ended ?? { status: 0, atMs: Date.now() };
		const exited_at = timestamp(atMs);
		if (process instanceof Task) {
			if (ended === undefined) await process.kill(9, false).then(() => process.exit);
			await process.delete();
			await unmount(`${process.bundle.path}/rootfs`);
			this.#tasks.delete(id);
			this.#events.publish("TaskDelete", { container_id: id, pid, exit_status: status, exited_at, id: "" });
		} else this.#task(id).execs.delete(exec_id);
		return encode("DeleteResponse", { pid, exit_status: status, exited_at });
	}

	async #exec(request: Request & Io & { spec: AnyMessage }): Promise<Uint8Array> {
		const { id, exec_id, spec, terminal, stdin, stdout, stderr } = request;
		const task = this.#task(id);
		if (task.execs.has(exec_id)) throw new RpcError(CODE.alreadyExists, `id ${exec_id}: already exists`);
		const process = parse(Process, Buffer.from(spec.value).toString());
		task.execs.set(exec_id, new ExecTask(task, exec_id, process, { terminal, stdin, stdout, stderr }));
		this.#events.publish("TaskExecAdded", { container_id: id, exec_id });
		return NOTHING;
	}

	async #state({ id, exec_id }: Request): Promise<Uint8Array> {
		const process = this.#process({ id, exec_id });
		const { ended, session, io, pid } = process;
		const runs = session === undefined ? "created" : "running";
		const isPaused = process instanceof Task && process.isPaused;
		return encode("StateResponse", {
			...{ id, exec_id, bundle: this.#task(id).bundle.path, pid, ...io },
			status: STATUS[ended !== undefined ? "stopped" : isPaused ? "paused" : runs],
			...(ended === undefined ? {} : { exit_status: ended.status, exited_at: timestamp(ended.atMs) }),
		});
	}

	async #wait(request: Request): Promise<Uint8Array> {
		const { status, atMs } = await this.#process(request).exit;
		return encode("WaitResponse", { exit_status: status, exited_at: timestamp(atMs) });
	}

	async #kill({ id, exec_id, signal, all }: Request & { signal: number; all: boolean }): Promise<Uint8Array> {
		const process = this.#process({ id, exec_id });
		if (process.ended !== undefined) throw new RpcError(CODE.notFound, "process already finished");
		if (process instanceof Task) await process.kill(signal, all);
		else process.session?.signal(signal);
		return NOTHING;
	}

	async #pause({ id }: Request, paused: boolean): Promise<Uint8Array> {
		const task = this.#task(id);
		await (paused ? task.pause() : task.resume());
		this.#events.publish(paused ? "TaskPaused" : "TaskResumed", { container_id: id });
		return NOTHING;
	}

	async #resize({ width, height, ...request }: Request & { width: number; height: number }): Promise<Uint8Array> {
		this.#process(request).resize(width, height);
		return NOTHING;
	}

	async #closeInput({ stdin, ...request }: Request & { stdin: boolean }): Promise<Uint8Array> {
		if (stdin) this.#process(request).closeInput();
		return NOTHING;
	}

	async #pids({ id }: Request): Promise<Uint8Array> {
		return encode("PidsResponse", { processes: [{ pid: this.#task(id).pid }] });
	}

	async #update({ id, resources }: { id: string; resources: AnyMessage }): Promise<Uint8Array> {
		const limits = parse(Resources, Buffer.from(resources.value).toString());
		await this.#task(id).update({ do: "update", resources: limits });
		return NOTHING;
	}

	async #stats({ id }: Request): Promise<Uint8Array> {
		const { sandbox, container } = this.#task(id);
		const used = await containerUsage(sandbox!.client, container.agentName);
		const metrics: Message = {
			pids: { current: used.pids, limit: used.pidsLimit ?? 0 },
			cpu: { usage_usec: used.cpuUs },
			memory: { usage: used.memoryBytes, usage_limit: used.memoryLimitBytes ?? 0 },
		};
		const stats = { type_url: "io.containerd.cgroups.v2.Metrics", value: encode("Metrics", metrics) };
		return encode("StatsResponse", { stats });
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
		if (task === undefined) throw new RpcError(CODE.notFound, `container ${id}: not found`);
		return task;
	}

	#process({ id, exec_id }: Request): Task | ExecTask {
		const task = this.#task(id);
		if (exec_id === "") return task;
		const exec = task.execs.get(exec_id);
		if (exec === undefined) throw new RpcError(CODE.notFound, `exec ${exec_id}: not found`);
		return exec;
	}
}

/** With a code that containerd knows. */
async function coded(work: Promise<Uint8Array>): Promise<Uint8Array> {
	try {
		return await work;
	} catch (error) {
		if (!(error instanceof OciError)) throw error;
		const code = { ERR_OCI_EXISTS: CODE.alreadyExists, ERR_OCI_STOPPED: CODE.notFound }[error.code];
		throw new RpcError(code ?? CODE.unknown, error.message);
	}
}

async function mountOn(target: string, { type, source, options }: MountMessage): Promise<void> {
	const how = options.length === 0 ? [] : ["-o", options.join()];
	await run("mount", [...(type === "bind" ? [] : ["-t", type]), ...how, source, target]);
}

export async function unmount(target: string): Promise<void> {
	await run("umount", ["-l", target]).catch(ignore);
}

/*
 * A machine's control socket: by it other processes take snapshots and core dumps of the machine, and have it explained.
 * Requests and answers are JSON (host/request-socket.ts).
 */
import type { Socket } from "node:net";
import { UnixListener } from "../backends/unix-listener.ts";
import { HostError, SnapshotError, StateError, UsageError } from "../base/errors.ts";
import { answerRequest, ask, type Failure, failureOf, RemoteError } from "../host/request-socket.ts";
import type { SnapshotOptions } from "../snapshot/write.ts";
import type { Machine } from "./machine.ts";

/** Answered when it is written. With `stop` the guest does not run on, and the machine ends. */
export type SnapshotRequest = { do: "snapshot"; path: string; base?: string | undefined; stop: boolean };

/** Answered when it is written. With `force` it replaces a file that is there. */
export type DumpRequest = { do: "dump"; path: string; force: boolean };

/** Answered after so many seconds. `symbols` is a file with the kernel's. */
export type ExplainRequest = { do: "explain"; seconds: number; symbols?: string | undefined };

export type MachineRequest =
	| SnapshotRequest
	| DumpRequest
	| ExplainRequest
	/** How far the snapshot or dump at `path` is. */
	| { do: "progress"; path: string }
	/** Gives up the snapshot or dump at `path`. */
	| { do: "cancel"; path: string };

/** Writes a core file of a machine. It is of a layer above (src/debug). */
export type DumpMachine = (
	machine: Machine,
	path: string,
	options: SnapshotWatch & { force: boolean },
) => Promise<void>;

/** Explains a machine that lives, as data. It is of a layer above (src/explain). */
export type ExplainMachine = (machine: Machine, options: ExplainOptions) => Promise<unknown>;
export interface ExplainOptions extends Pick<ExplainRequest, "seconds" | "symbols"> {
	/** The last lines of its console, as far as they are known. */
	output?: string | undefined;
}

/** What layers above do with a machine. */
export interface MachineWork {
	dump?: DumpMachine;
	explain?: ExplainMachine;
}

/** The answers to requests; what is missing is refused. */
export interface MachineAnswers {
	/** Takes a snapshot. */
	snapshot(request: SnapshotRequest, watch: SnapshotWatch): Promise<void>;
	dump?: ((request: DumpRequest, watch: SnapshotWatch) => Promise<void>) | undefined;
	explain?: ((request: ExplainRequest) => Promise<unknown>) | undefined;
}

export interface MachineAnswer {
	/** An Explanation. */
	readonly explanation?: unknown;
	/** What could not be done. */
	readonly failure?: Failure;
	/** Bytes of memory that were looked at, and all of them; missing when no such snapshot is being taken. */
	readonly progress?: readonly [done: number, total: number];
}

/** The snapshot that is being taken. */
interface Work {
	readonly path: string;
	progress: readonly [done: number, total: number];
	readonly abort: AbortController;
}

/** The side of the machine. Its owner closes it when the machine has ended. */
export class MachineControl {
	readonly #machine: Machine;
	readonly #requests: MachineRequests;
	readonly #sockets = new Set<Socket>();
	#listener: UnixListener | undefined;

	/** @throws HostError ERR_SOCKET_IN_USE, ERR_SOCKET */
	static async open(path: string, machine: Machine, work: MachineWork = {}): Promise<MachineControl> {
		const control = new MachineControl(machine, work);
		control.#listener = await UnixListener.open(path, (socket) => {
			control.#sockets.add(socket);
			socket.once("close", () => control.#sockets.delete(socket));
			answerRequest(socket, (request) => control.#requests.answer(request as MachineRequest));
		});
		return control;
	}

	private constructor(machine: Machine, { dump, explain }: MachineWork) {
		this.#machine = machine;
		this.#requests = new MachineRequests({
			snapshot: (request, watch) => this.#snapshot(request, watch),
			dump: dump && (({ path, force }, watch) => dump(machine, path, { force, ...watch })),
			explain: explain && ((request) => explain(machine, request)),
		});
	}

	/** What was answered is still sent. */
	async close(): Promise<void> {
		const closed = this.#listener?.close();
		for (const socket of this.#sockets) socket.destroySoon();
		await closed;
	}

	async #snapshot({ path, base, stop }: SnapshotRequest, watch: SnapshotWatch): Promise<void> {
		const machine = this.#machine;
		const pauses = stop && machine.state === "running";
		const hasEnded = () => machine.state === "ended";
		try {
			if (pauses) await machine.pause();
			await machine.snapshot(path, { base, ...watch });
			if (stop) void machine.stop();
		} catch (error) {
			if (pauses && !hasEnded()) machine.resume();
			throw error;
		}
	}
}

/** What a snapshot tells while it is taken, and what ends it. */
export type SnapshotWatch = Required<Pick<SnapshotOptions, "onProgress" | "signal">>;

/** Requests about a machine. One snapshot or dump is taken at a time. */
export class MachineRequests {
	readonly #answers: MachineAnswers;
	#work: Work | undefined;

	constructor(answers: MachineAnswers) {
		this.#answers = answers;
	}

	/** Never rejects. */
	async answer(request: MachineRequest): Promise<MachineAnswer> {
		try {
			if (request.do === "explain") return await this.#explain(request);
			const work = this.#work?.path === request.path ? this.#work : undefined;
			if (request.do === "snapshot") await this.#watched(request, (watch) => this.#answers.snapshot(request, watch));
			else if (request.do === "dump") {
				const { dump } = this.#answers;
				if (dump === undefined) throw isNotFor(request);
				await this.#watched(request, (watch) => dump(request, watch));
			} else if (request.do === "cancel") work?.abort.abort(givenUp(request.path));
			else if (work !== undefined) return { progress: work.progress };
			return {};
		} catch (error) {
			return { failure: failureOf(error, "ERR_SNAPSHOT_WRITE") };
		}
	}

	async #explain(request: ExplainRequest): Promise<MachineAnswer> {
		const { explain } = this.#answers;
		if (explain === undefined) throw isNotFor(request);
		/* The guest stands still for it. */
		if (this.#work !== undefined) throw isBusy(request);
		return { explanation: await explain(request) };
	}

	async #watched(request: SnapshotRequest | DumpRequest, take: (watch: SnapshotWatch) => Promise<void>): Promise<void> {
		if (this.#work !== undefined) throw isBusy(request);
		const work: Work = { path: request.path, progress: [0, 1], abort: new AbortController() };
		this.#work = work;
		const onProgress = (done: number, total: number) => {
			work.progress = [done, total];
		};
		try {
			await take({ onProgress, signal: work.abort.signal });
		} finally {
			this.#work = undefined;
		}
	}
}

function isBusy({ do: what }: MachineRequest): StateError {
	return new StateError("ERR_MACHINE_STATE", `Cannot ${what} the machine: a snapshot is being taken`);
}

function isNotFor({ do: what }: MachineRequest): UsageError {
	return new UsageError("ERR_USAGE", `Cannot ${what} the machine: its process has no way to`);
}

function givenUp(path: string): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_WRITE", `Cannot write ${path}: it was given up`);
}

/**
 * Asks a machine.
 *
 * @param socket path of its control socket
 * @throws HostError ERR_MACHINE_MISSING, RemoteError what the machine could not do
 */
export async function askMachine(socket: string, request: MachineRequest): Promise<MachineAnswer> {
	const answer = await ask<MachineAnswer>(socket, request);
	if (answer === undefined) {
		throw new HostError("ERR_MACHINE_MISSING", `Cannot reach a machine by ${socket}: it does not answer`, {
			hint: "Give tsvmm boot the option --control PATH, and name that path",
		});
	}
	if (answer.failure !== undefined) throw new RemoteError(answer.failure);
	return answer;
}

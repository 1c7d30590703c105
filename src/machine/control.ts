/*
 * A machine's control socket: by it other processes take snapshots and core dumps of the machine. Requests and answers are JSON
 * (host/request-socket.ts).
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

export type MachineRequest =
	| SnapshotRequest
	| DumpRequest
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

export interface MachineAnswer {
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
	readonly #snapshots: SnapshotRequests;
	readonly #sockets = new Set<Socket>();
	#listener: UnixListener | undefined;

	/** @throws HostError ERR_SOCKET_IN_USE, ERR_SOCKET */
	static async open(path: string, machine: Machine, dump?: DumpMachine): Promise<MachineControl> {
		const control = new MachineControl(machine, dump);
		control.#listener = await UnixListener.open(path, (socket) => {
			control.#sockets.add(socket);
			socket.once("close", () => control.#sockets.delete(socket));
			answerRequest(socket, (request) => control.#snapshots.answer(request as MachineRequest));
		});
		return control;
	}

	private constructor(machine: Machine, dump: DumpMachine | undefined) {
		this.#machine = machine;
		this.#snapshots = new SnapshotRequests(
			(request, watch) => this.#snapshot(request, watch),
			dump && (({ path, force }, watch) => dump(machine, path, { force, ...watch })),
		);
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

/** Requests about snapshots and dumps. One is taken at a time. */
export class SnapshotRequests {
	readonly #take: (request: SnapshotRequest, watch: SnapshotWatch) => Promise<void>;
	readonly #dump: ((request: DumpRequest, watch: SnapshotWatch) => Promise<void>) | undefined;
	#work: Work | undefined;

	/**
	 * @param take takes a snapshot
	 * @param dump writes a core file; undefined for machines of which there are none
	 */
	constructor(
		take: (request: SnapshotRequest, watch: SnapshotWatch) => Promise<void>,
		dump?: (request: DumpRequest, watch: SnapshotWatch) => Promise<void>,
	) {
		this.#take = take;
		this.#dump = dump;
	}

	/** Never rejects. */
	async answer(request: MachineRequest): Promise<MachineAnswer> {
		try {
			const work = this.#work?.path === request.path ? this.#work : undefined;
			if (request.do === "snapshot") await this.#watched(request, (watch) => this.#take(request, watch));
			else if (request.do === "dump") {
				const dump = this.#dump;
				if (dump === undefined) throw new UsageError("ERR_USAGE", "Cannot dump the machine: its process has no way to");
				await this.#watched(request, (watch) => dump(request, watch));
			} else if (request.do === "cancel") work?.abort.abort(givenUp(request.path));
			else if (work !== undefined) return { progress: work.progress };
			return {};
		} catch (error) {
			return { failure: failureOf(error, "ERR_SNAPSHOT_WRITE") };
		}
	}

	async #watched(request: SnapshotRequest | DumpRequest, take: (watch: SnapshotWatch) => Promise<void>): Promise<void> {
		if (this.#work !== undefined)
			throw new StateError("ERR_MACHINE_STATE", `Cannot ${request.do} the machine: a snapshot is being taken`);
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

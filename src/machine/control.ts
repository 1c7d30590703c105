/*
 * A machine's control socket: by it other processes take snapshots of the machine. Requests and answers are JSON
 * (host/request-socket.ts).
 */
import type { Socket } from "node:net";
import { UnixListener } from "../backends/unix-listener.ts";
import { HostError, SnapshotError, StateError } from "../base/errors.ts";
import { answerRequest, ask, type Failure, failureOf, RemoteError } from "../host/request-socket.ts";
import type { SnapshotOptions } from "../snapshot/write.ts";
import type { Machine } from "./machine.ts";

/** Answered when it is written. With `stop` the guest does not run on, and the machine ends. */
export type SnapshotRequest = { do: "snapshot"; path: string; base?: string | undefined; stop: boolean };

export type MachineRequest =
	| SnapshotRequest
	/** How far the snapshot at `path` is. */
	| { do: "progress"; path: string }
	/** Gives up the snapshot at `path`. */
	| { do: "cancel"; path: string };

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
	readonly #snapshots = new SnapshotRequests((request, watch) => this.#snapshot(request, watch));
	readonly #sockets = new Set<Socket>();
	#listener: UnixListener | undefined;

	/** @throws HostError ERR_SOCKET_IN_USE, ERR_SOCKET */
	static async open(path: string, machine: Machine): Promise<MachineControl> {
		const control = new MachineControl(machine);
		control.#listener = await UnixListener.open(path, (socket) => {
			control.#sockets.add(socket);
			socket.once("close", () => control.#sockets.delete(socket));
			answerRequest(socket, (request) => control.#snapshots.answer(request as MachineRequest));
		});
		return control;
	}

	private constructor(machine: Machine) {
		this.#machine = machine;
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

/** Requests about snapshots. One is taken at a time. */
export class SnapshotRequests {
	readonly #take: (request: SnapshotRequest, watch: SnapshotWatch) => Promise<void>;
	#work: Work | undefined;

	/** @param take takes one */
	constructor(take: (request: SnapshotRequest, watch: SnapshotWatch) => Promise<void>) {
		this.#take = take;
	}

	/** Never rejects. */
	async answer(request: MachineRequest): Promise<MachineAnswer> {
		try {
			const work = this.#work?.path === request.path ? this.#work : undefined;
			if (request.do === "snapshot") await this.#snapshot(request);
			else if (request.do === "cancel") work?.abort.abort(givenUp(request.path));
			else if (work !== undefined) return { progress: work.progress };
			return {};
		} catch (error) {
			return { failure: failureOf(error, "ERR_SNAPSHOT_WRITE") };
		}
	}

	async #snapshot(request: SnapshotRequest): Promise<void> {
		if (this.#work !== undefined)
			throw new StateError("ERR_MACHINE_STATE", "Cannot snapshot the machine: a snapshot is being taken");
		const work: Work = { path: request.path, progress: [0, 1], abort: new AbortController() };
		this.#work = work;
		const onProgress = (done: number, total: number) => {
			work.progress = [done, total];
		};
		try {
			await this.#take(request, { onProgress, signal: work.abort.signal });
		} finally {
			this.#work = undefined;
		}
	}
}

function givenUp(path: string): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_WRITE", `Cannot write the snapshot ${path}: it was given up`);
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

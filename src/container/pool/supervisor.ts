/*
 * The supervisor of a pool: the process that holds so many machines ready. It starts the process of each, and the next one when
 * one was taken. A machine that was taken is its container's and no more the pool's; those that wait end with it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { HostError, ignore } from "../../base/errors.ts";
import { Teardown } from "../../base/teardown.ts";
import { tryLockFile } from "../../host/file-lock.ts";
import { ownProgram } from "../../host/own-program.ts";
import { answerRequests, failureOf } from "../../host/request-socket.ts";
import type { TemplateShape } from "../template/store.ts";
import type { PoolPaths } from "./paths.ts";
import { type PoolAnswer, type PoolRequest, type PoolState, READY, TAKEN } from "./protocol.ts";

/** So many machines in a row may fail before no further one is made. */
const MOST_FAILURES = 3;
/** How long a machine that waits may take to end. */
const END_MS = 10_000;
/** How long a container that has just begun has this host for itself before the next machine is made. */
const CALM_MS = 500;
/** When machines are made again that have failed. */
const RETRY_MS = 60_000;

/** What a pool holds. */
export interface PoolPlan {
	shape: TemplateShape;
	machines: number;
}

export interface PoolOptions {
	/** Called when the pool is full, or with why it cannot be; the first call counts. */
	onReady: (error?: unknown) => void;
	/** Starts the process of a machine, whose descriptor 3 is a stream to this one. Tests have others. */
	start?: (socket: string, shape: TemplateShape, output: number) => ChildProcess;
}

/** One machine's process, until it is taken or ends. */
interface Member {
	child: ChildProcess;
	/** It ends when the container runs, or the process does. */
	stream: Duplex;
	isReady: boolean;
	isTaken: boolean;
	/** It was told to end. */
	isUnwanted: boolean;
	/** Resolves when it is this pool's no more. */
	gone: Promise<void>;
}

/**
 * Holds a pool until it is told to end, by a request or by a signal.
 *
 * @throws HostError ERR_POOL_RUNNING when another process has it, ERR_POOL_FAILED when no first machine can be made
 */
export async function supervisePool(
	paths: PoolPaths,
	plan: PoolPlan,
	{ onReady, start = startMember }: PoolOptions,
): Promise<void> {
	mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
	const lock = await open(paths.lock, "a+");
	const teardown = new Teardown();
	teardown.add(() => lock.close());
	try {
		if (!tryLockFile(lock.fd, "exclusive", paths.lock)) {
			throw new HostError("ERR_POOL_RUNNING", `Cannot start pool ${paths.key}: another process has it`);
		}
		/* What a supervisor that was killed has left. The directory stays: the next one may be about to lock it. */
		for (const path of [paths.control, ...paths.sockets()]) rmSync(path, { force: true });
		const pool = new Pool(paths, plan, { onReady, start });
		teardown.add(() => pool.end());
		for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(name, () => void pool.end());
		teardown.add(await answerRequests(paths.control, (request) => pool.answer(request as PoolRequest)));
		pool.fill();
		await pool.ended;
		if (pool.error !== undefined) throw pool.error;
	} finally {
		await teardown.run();
	}
}

class Pool {
	/** Resolves when all machines have ended. */
	readonly ended: Promise<void>;
	/** Why it ended by itself. */
	error: HostError | undefined;
	readonly #paths: PoolPaths;
	readonly #plan: PoolPlan;
	readonly #options: Required<PoolOptions>;
	readonly #members = new Set<Member>();
	#end!: () => void;
	#numbers = 0;
	#failures = 0;
	#failure: string | undefined;
	#wasFull = false;
	#ending: Promise<void> | undefined;

	constructor(paths: PoolPaths, plan: PoolPlan, options: Required<PoolOptions>) {
		this.#paths = paths;
		this.#plan = { ...plan };
		this.#options = options;
		this.ended = new Promise((resolve) => {
			this.#end = resolve;
		});
	}

	async answer(request: PoolRequest): Promise<PoolAnswer> {
		try {
			if (request.do === "end") await this.end();
			else if (request.do === "resize") {
				this.#plan.machines = request.machines;
				this.#failures = 0;
				this.#failure = undefined;
				this.fill();
			}
			return { state: this.#state() };
		} catch (error) {
			return { failure: failureOf(error, "ERR_POOL_FAILED") };
		}
	}

	/** Starts machines until there are as many as are wanted, and ends those that are too many. */
	fill(): void {
		if (this.#ending !== undefined) return;
		const wanted = [...this.#members].filter(({ isUnwanted }) => !isUnwanted);
		for (const member of wanted.slice(this.#plan.machines)) dismiss(member);
		if (this.#failures >= MOST_FAILURES) return;
		for (let count = wanted.length; count < this.#plan.machines; count++) this.#start();
		const { ready, machines } = this.#state();
		if (ready < machines) return;
		this.#wasFull = true;
		this.#options.onReady();
	}

	/** Ends all machines that wait. */
	end(): Promise<void> {
		this.#ending ??= this.#endAll();
		return this.#ending;
	}

	async #endAll(): Promise<void> {
		/* Those that were taken are their containers'. */
		const members = [...this.#members].filter(({ isTaken }) => !isTaken);
		for (const member of members) dismiss(member);
		await Promise.all(members.map(({ gone }) => gone));
		this.#end();
	}

	#state(): PoolState {
		const ready = [...this.#members].filter(({ isReady, isUnwanted }) => isReady && !isUnwanted).length;
		return { ...this.#plan, ready, failure: this.#failure };
	}

	#start(): void {
		this.#numbers += 1;
		const path = this.#paths.socket(this.#numbers);
		const log = this.#paths.machineLog(this.#numbers);
		const output = openSync(log, "w", 0o600);
		const child = this.#options.start(path, this.#plan.shape, output);
		closeSync(output);
		const stream = child.stdio[3] as Duplex;
		const exited = new Promise<void>((resolve) => {
			child.once("exit", () => resolve()).once("error", () => resolve());
		});
		const gone = new Promise<void>((resolve) => {
			stream.once("close", () => (member.isTaken ? resolve() : void exited.then(resolve)));
		});
		const member: Member = { child, stream, isReady: false, isTaken: false, isUnwanted: false, gone };
		this.#members.add(member);
		void exited.then(() => stream.destroy());
		child.unref();
		stream.on("error", ignore);
		stream.setEncoding("utf8").on("data", (lines: string) => this.#heard(member, lines));
		void gone.then(() => {
			rmSync(path, { force: true });
			this.#lost(member, log);
		});
	}

	#heard(member: Member, lines: string): void {
		if (lines.includes(READY)) {
			member.isReady = true;
			this.#failures = 0;
			this.#failure = undefined;
		}
		if (lines.includes(TAKEN)) member.isTaken = true;
		if (member.isTaken) member.isReady = false;
		this.fill();
	}

	/** For a while; a pool that never was full ends. */
	#giveUp(): void {
		if (this.#wasFull) {
			const retry = () => {
				this.#failures = 0;
				this.fill();
			};
			setTimeout(retry, RETRY_MS).unref();
			return;
		}
		this.error = new HostError("ERR_POOL_FAILED", `Cannot fill pool ${this.#paths.key}: ${this.#failure}`);
		this.#options.onReady(this.error);
		void this.end();
	}

	#lost(member: Member, log: string): void {
		this.#members.delete(member);
		const why = lastLineOf(log);
		rmSync(log, { force: true });
		if (member.isTaken) {
			setTimeout(() => this.fill(), CALM_MS);
			return;
		}
		if (!member.isUnwanted) {
			this.#failures += 1;
			this.#failure = why;
			if (this.#failures >= MOST_FAILURES) this.#giveUp();
		}
		this.fill();
	}
}

function startMember(socket: string, shape: TemplateShape, output: number): ChildProcess {
	const words = ["container", "supervise", "--pool", socket, JSON.stringify(shape)];
	return spawn(process.execPath, [...ownProgram(), ...words], {
		cwd: "/",
		/* A session of its own, as a container's supervisor has. */
		detached: true,
		stdio: ["ignore", output, output, "pipe"],
	});
}

/** A machine that waits ends when its stream to the pool does. */
function dismiss(member: Member): void {
	if (member.isUnwanted) return;
	member.isUnwanted = true;
	member.stream.end();
	const timer = setTimeout(() => {
		if (!member.isTaken) member.child.kill("SIGKILL");
	}, END_MS);
	void member.gone.then(() => clearTimeout(timer));
}

/** What it said of its end. */
function lastLineOf(log: string): string {
	try {
		const lines = readFileSync(log, "utf8").trim().split("\n");
		const [error] = lines.filter((line) => line.startsWith("tsvmm: error: ")).slice(-1);
		return (error ?? lines.at(-1))?.replace(/^tsvmm: error: /, "") || "a machine has ended without a word";
	} catch {
		return "a machine has ended without a word";
	}
}

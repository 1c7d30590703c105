/*
 * A lab as its users see it: up, exec, down. `up` starts a supervisor (supervisor.ts), which outlives the caller. The
 * caller talks to the agent in the lab through the supervisor's socket. When several callers bring the same lab up at
 * the same time, one of them gets the lab's lock and starts the supervisor, and the others wait for it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient } from "../agent/client.ts";
import type { Session } from "../agent/session.ts";
import { HostError, TsvmmError } from "../base/errors.ts";
import { ownProgram } from "../host/own-program.ts";
import { connectTo } from "../host/request-socket.ts";
import { collect, type ExecResult } from "./collect.ts";
import { askSupervisor, CONTROL_PROTOCOL } from "./control.ts";
import { labEnvironment } from "./environment.ts";
import { LAB_ROOT } from "./lab-vm.ts";
import { isLocked, takeLock } from "./lock.ts";
import { DEFAULT_LAB, LabPaths, type SupervisorRecord } from "./paths.ts";
import type { QemuSize } from "./qemu.ts";
import { commonShares, type Share } from "./shares.ts";

export interface LabOptions {
	/** Several labs can be up at once, each with its own name. "default" when missing. */
	name?: string;
	/** RAM of the lab's VM: $TSVMM_LAB_MEMORY_MIB or 3072. */
	memoryMiB?: number;
	/** vCPUs of the lab's VM: $TSVMM_LAB_CPUS or 1. QEMU 7.2 hangs with more (qemu.ts). */
	cpus?: number;
	/** Files and directories for the lab, besides those that every command needs (shares.ts). */
	shares?: readonly Share[];
	/** Called when the new lab can see all files of this host, with the reason. */
	onUnconfined?: (why: string) => void;
	/** Called about ten times a second while the lab comes up. */
	onProgress?: (record: SupervisorRecord | undefined, elapsedMs: number) => void;
	/** Called before a broken lab is brought up again, with what it "did not ... any more". */
	onRestart?: (broken: string) => void;
}

export interface SpawnOptions {
	/** This process's working directory when missing. */
	cwd?: string;
	/** Added to this process's environment (filtered, see environment.ts). */
	env?: Record<string, string>;
	/** A terminal of this size in the lab. */
	tty?: { columns: number; rows: number };
}

export interface ExecOptions extends Omit<SpawnOptions, "tty"> {
	input?: string | Uint8Array;
	/** When the program runs longer, it is killed and `exec` fails with ERR_LAB_TIMEOUT. */
	timeoutMs?: number;
}

/** What `lab status` prints. */
export interface LabStatus {
	name: string;
	state: "down" | SupervisorRecord["state"];
	record?: SupervisorRecord;
	/** What a broken lab "did not ... any more", until the next `up`. */
	broken?: string;
}

const UP_TIMEOUT_MS = 600_000;
const POLL_MS = 20;
const DOWN_TIMEOUT_MS = 20_000;

function sizeOf(variable: string, fallback: number): number {
	const value = Number(process.env[variable] || fallback);
	if (!Number.isInteger(value) || value < 1) {
		throw new HostError("ERR_LAB_SIZE", `Cannot use ${variable}=${process.env[variable]}: a whole number is wanted`);
	}
	return value;
}

export class Lab {
	readonly name: string;
	readonly #client: AgentClient;

	private constructor(name: string, client: AgentClient) {
		this.name = name;
		this.#client = client;
	}

	/** Connects to a lab that is up. Undefined when it is not. */
	static async connect(name = DEFAULT_LAB): Promise<Lab | undefined> {
		const paths = new LabPaths(name);
		const socket = await connectTo(paths.socket);
		if (socket === undefined) return undefined;
		const client = new AgentClient(socket);
		try {
			await client.hello();
		} catch (error) {
			client.close();
			if (error instanceof TsvmmError && error.code === "ERR_AGENT_VERSION") throw error;
			/* The supervisor is about to end. */
			return undefined;
		}
		return new Lab(name, client);
	}

	/**
	 * Connects to a lab, bringing it up first when it is down.
	 *
	 * @throws HostError what the supervisor failed with, ERR_LAB_SHARE, ERR_LAB_TIMEOUT
	 */
	static async up(options: LabOptions = {}): Promise<Lab> {
		const { name = DEFAULT_LAB, onProgress, onRestart, onUnconfined } = options;
		const shares = [...commonShares(), ...(options.shares ?? [])];
		const memoryMiB = options.memoryMiB ?? sizeOf("TSVMM_LAB_MEMORY_MIB", 3072);
		const cpus = options.cpus ?? sizeOf("TSVMM_LAB_CPUS", 1);
		const paths = new LabPaths(name);
		const start = performance.now();
		let supervisor: ChildProcess | undefined;
		let broken: string | undefined;
		for (let turn = 0; ; turn++) {
			const lab = await Lab.connect(name);
			if (lab !== undefined) {
				let ready = false;
				try {
					ready = await prepare(paths, shares);
				} finally {
					if (!ready) lab.close();
				}
				if (ready) {
					const unconfined = supervisor && paths.readRecord()?.unconfined;
					if (unconfined !== undefined) onUnconfined?.(unconfined);
					return lab;
				}
			}
			if (supervisor === undefined) {
				paths.make();
				/* None when somebody else's supervisor is at work, or an old one is about to end. */
				const lock = takeLock(paths.lock);
				if (lock !== undefined) {
					const found = paths.takeBroken();
					if (found !== undefined && broken === undefined) onRestart?.(found);
					broken ??= found;
					supervisor = startSupervisor(paths, lock, { memoryMiB, cpus });
				}
			} else if (supervisor.exitCode !== null || supervisor.signalCode !== null) {
				throw failure(paths, supervisor);
			}
			const elapsedMs = performance.now() - start;
			if (elapsedMs > UP_TIMEOUT_MS) {
				throw new HostError(
					"ERR_LAB_TIMEOUT",
					`Cannot bring up lab ${name}: not ready after ${UP_TIMEOUT_MS / 1000} s`,
				);
			}
			if (turn % 5 === 4) onProgress?.(paths.readRecord(), elapsedMs);
			await sleep(POLL_MS);
		}
	}

	/** Stops a lab. @returns false when it was down already */
	static async down(name = DEFAULT_LAB): Promise<boolean> {
		const paths = new LabPaths(name);
		const deadline = performance.now() + DOWN_TIMEOUT_MS;
		let wasUp = false;
		let signalledPid: number | undefined;
		while (!paths.clean()) {
			const pid = paths.readRecord()?.pid;
			if (pid !== undefined && signalledPid !== pid) {
				/* The lock is held: the supervisor lives, or has ended so recently that no other process has its number. */
				sendSignal(pid, "SIGTERM");
				signalledPid = pid;
				wasUp = true;
			}
			if (performance.now() > deadline) {
				const qemuPid = paths.readRecord()?.qemuPid;
				if (pid !== undefined) sendSignal(pid, "SIGKILL");
				if (qemuPid !== undefined) sendSignal(qemuPid, "SIGKILL");
				if (performance.now() > deadline + 5000) {
					throw new HostError("ERR_LAB_TIMEOUT", `Cannot bring down lab ${name}: supervisor ${pid} does not end`);
				}
			}
			await sleep(POLL_MS);
		}
		return wasUp;
	}

	/** The state of a lab. Removes what a killed lab has left. */
	static async status(name = DEFAULT_LAB): Promise<LabStatus> {
		const paths = new LabPaths(name);
		if (!isLocked(paths.lock)) {
			const broken = paths.readBroken();
			if (broken !== undefined) return { name, state: "down", broken };
			paths.clean();
			return { name, state: "down" };
		}
		const record = paths.readRecord();
		return record === undefined ? { name, state: "building" } : { name, state: record.state, record };
	}

	/** Starts a program in the lab. @throws ExecError when it cannot be run, with exit status 127 or 126 */
	spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<Session> {
		const { cwd = process.cwd(), tty } = options;
		const env = labEnvironment({ ...process.env, ...options.env });
		const spec = { args: argv, env, cwd, createCwd: false, root: LAB_ROOT };
		return this.#client.exec(tty === undefined ? spec : { ...spec, tty });
	}

	/**
	 * Runs a program in the lab to its end and collects its output.
	 *
	 * @example const { stdout } = await lab.exec(["uname", "-r"]);
	 * @throws ExecError when it cannot be run; HostError ERR_LAB_TIMEOUT
	 */
	async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
		return await collect(await this.spawn(argv, options), options.input, options.timeoutMs);
	}

	/** Shares more files and directories with the lab. @throws HostError ERR_LAB_SHARE; ERR_LAB_GONE when it ends */
	async share(shares: readonly Share[]): Promise<void> {
		if (await prepare(new LabPaths(this.name), shares)) return;
		throw new HostError("ERR_LAB_GONE", "Cannot share files with the lab: it has ended");
	}

	/** Ends this connection and the programs that were started through it. The lab stays up. */
	close(): void {
		this.#client.close();
	}

	/** Ends this connection and stops the lab. */
	async down(): Promise<void> {
		this.close();
		await Lab.down(this.name);
	}
}

/**
 * Asks the supervisor to share files with the lab and to check it.
 *
 * @returns whether the lab runs programs; when it does not, it is about to end
 * @throws HostError ERR_LAB_VERSION, ERR_LAB_SHARE
 */
async function prepare(paths: LabPaths, shares: readonly Share[]): Promise<boolean> {
	const record = paths.readRecord();
	if (record !== undefined && record.protocol !== CONTROL_PROTOCOL) {
		throw new HostError("ERR_LAB_VERSION", `Cannot use lab ${paths.name}: another version of tsvmm has started it`, {
			hint: `End it with: tsvmm lab down --name ${paths.name}`,
		});
	}
	const answer = await askSupervisor(paths.control, { shares });
	if (answer?.failure !== undefined) {
		const { code, message, hint } = answer.failure;
		throw new HostError(code, message, { hint });
	}
	return answer !== undefined && answer.broken === undefined;
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
	try {
		process.kill(pid, signal);
	} catch {
		/* The process has ended. */
	}
}

/**
 * Starts a supervisor, which outlives this process.
 *
 * @param lock the lab's lock: the supervisor inherits it, this process closes it
 */
function startSupervisor(paths: LabPaths, lock: number, { memoryMiB, cpus }: QemuSize): ChildProcess {
	let log: number | undefined;
	try {
		log = openSync(paths.supervisorLog, "a", 0o600);
		const supervise = [...ownProgram(), "lab", "supervise", "--name", paths.name];
		const size = ["--memory-mib", `${memoryMiB}`, "--cpus", `${cpus}`];
		const child = spawn(process.execPath, [...supervise, ...size], {
			cwd: "/",
			detached: true,
			stdio: ["ignore", log, log, lock],
		});
		child.once("error", () => undefined);
		child.unref();
		return child;
	} finally {
		closeSync(lock);
		if (log !== undefined) closeSync(log);
	}
}

/** The error that a supervisor has left. Removes its files. */
function failure(paths: LabPaths, supervisor: ChildProcess): HostError {
	const left = paths.readFailure();
	let log = "";
	try {
		log = readFileSync(paths.supervisorLog, "utf8").trim().split("\n").slice(-5).join("\n");
	} catch {
		/* The supervisor has printed nothing. */
	}
	paths.clean();
	if (left !== undefined) return new HostError(left.code, left.message, { hint: left.hint });
	const how = supervisor.signalCode ?? `exit status ${supervisor.exitCode}`;
	return new HostError(
		"ERR_LAB_FAILED",
		`Cannot bring up lab ${paths.name}: its supervisor has ended (${how})\n${log}`,
	);
}

/*
 * Where a lab lives on the host: RUNTIME/lab/NAME/ with
 *
 *     lock         held as long as the lab's supervisor or its QEMU lives (lock.ts)
 *     supervisor.json  who keeps the lab, and how far it is
 *     socket       the agent's protocol, for many clients; there once the lab is ready
 *     control      what commands ask of the supervisor itself
 *     error.json   why the supervisor gave up, or what a lab that has broken no longer did
 *     supervisor.log, console.log
 *
 * A directory whose lock is free belongs to nobody: the next command removes it.
 */
import {
	closeSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmdirSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { errnoName, UsageError } from "../base/errors.ts";
import { runtimeDirectory } from "../host/directories.ts";
import { takeLock } from "./lock.ts";
import type { Share } from "./shares.ts";

/** Code in error.json of a lab that has run and then failed by itself: the next command restarts it and says so. */
export const BROKEN = "ERR_LAB_GONE";

export const DEFAULT_LAB = "default";

/** How far a supervisor is. */
export type LabState = "building" | "restoring" | "ready";

/** supervisor.json */
export interface SupervisorRecord {
	pid: number;
	qemuPid?: number;
	state: LabState;
	/** Which requests it answers (control.ts). */
	protocol: number;
	/** When this state began, in ms since 1970. */
	sinceMs: number;
	memoryMiB: number;
	cpus: number;
	/** Directory of the template. */
	template?: string;
	/** What it is given of the host's files. */
	shares?: readonly Share[];
	/** Why it is given all of them: what the host answered when a namespace was to be made. */
	unconfined?: string;
	/** From the start of QEMU until the lab answered, in ms. */
	restoreMs?: number;
}

/** error.json */
export interface SupervisorFailure {
	code: string;
	message: string;
	hint?: string;
}

export class LabPaths {
	readonly name: string;
	readonly directory: string;
	readonly lock: string;
	readonly socket: string;
	readonly control: string;
	readonly failure: string;
	readonly supervisorLog: string;
	readonly console: string;

	constructor(name: string) {
		if (!/^[a-z0-9][a-z0-9_.-]{0,30}$/i.test(name)) {
			throw new UsageError(
				"ERR_LAB_NAME",
				`Cannot name a lab "${name}": letters, digits, "-", "_" and "." are possible`,
			);
		}
		this.name = name;
		this.directory = join(runtimeDirectory(), "lab", name);
		this.lock = join(this.directory, "lock");
		this.socket = join(this.directory, "socket");
		this.control = join(this.directory, "control");
		this.failure = join(this.directory, "error.json");
		this.supervisorLog = join(this.directory, "supervisor.log");
		this.console = join(this.directory, "console.log");
	}

	make(): void {
		mkdirSync(this.directory, { recursive: true, mode: 0o700 });
	}

	/** Removes what a lab left that was killed. @returns false when the lab lives */
	clean(): boolean {
		if (!existsSync(this.directory)) return true;
		const lock = takeLock(this.lock);
		if (lock === undefined) return !existsSync(this.directory);
		try {
			this.remove();
		} finally {
			closeSync(lock);
		}
		return true;
	}

	/** Removes the directory; for the holder of the lock. */
	remove(): void {
		try {
			const others = readdirSync(this.directory).filter((name) => name !== basename(this.lock));
			for (const name of others) rmSync(join(this.directory, name), { recursive: true });
			/* From here on the directory belongs to the next who takes the lock: what he puts there stays. */
			rmSync(this.lock);
			rmdirSync(this.directory);
		} catch (error) {
			if (!["ENOENT", "ENOTEMPTY"].includes(errnoName(error) ?? "")) throw error;
		}
	}

	readRecord(): SupervisorRecord | undefined {
		return readJson(join(this.directory, "supervisor.json")) as SupervisorRecord | undefined;
	}
	writeRecord(record: SupervisorRecord): void {
		writeJson(join(this.directory, "supervisor.json"), record);
	}
	readFailure(): SupervisorFailure | undefined {
		return readJson(this.failure) as SupervisorFailure | undefined;
	}
	/** As readBroken, once. */
	takeBroken(): string | undefined {
		const broken = this.readBroken();
		if (broken !== undefined) rmSync(this.failure, { force: true });
		return broken;
	}
	/** What a lab that is down did no more, when it has failed by itself. */
	readBroken(): string | undefined {
		const failure = this.readFailure();
		return failure?.code === BROKEN ? failure.message : undefined;
	}
	writeFailure(failure: SupervisorFailure): void {
		writeJson(this.failure, failure);
	}
}

function readJson(path: string): unknown {
	try {
		return JSON.parse(readFileSync(path, "utf8"));
	} catch {
		return undefined;
	}
}

/** By rename, so that no reader sees half of it. */
function writeJson(path: string, value: unknown): void {
	writeFileSync(`${path}.new`, `${JSON.stringify(value)}\n`, { mode: 0o600 });
	renameSync(`${path}.new`, path);
}

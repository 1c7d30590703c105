/*
 * The files of a lab on the host. They are in RUNTIME/lab/NAME/:
 *
 *     lock             locked as long as the lab's supervisor or its QEMU lives (lock.ts)
 *     supervisor.json  the supervisor's record: process number, state, size (SupervisorRecord)
 *     socket           clients speak the agent's protocol here; made when the lab is ready
 *     control          requests to the supervisor itself (control.ts)
 *     error.json       the error with which the supervisor ended, or what a broken lab no longer did
 *     supervisor.log   what the supervisor prints
 *     console.log      what the kernel of the lab's VM prints
 *
 * When the lock is free, the lab is down, and the next command removes the directory.
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

/** Code in error.json of a broken lab, one that has run and then failed. The next command restarts it and says so. */
export const BROKEN = "ERR_LAB_GONE";

export const DEFAULT_LAB = "default";

/** How far a supervisor is. */
export type LabState = "building" | "restoring" | "ready";

/** supervisor.json */
export interface SupervisorRecord {
	pid: number;
	qemuPid?: number;
	state: LabState;
	/** The version of requests that it answers (control.ts). */
	protocol: number;
	/** When this state began, in ms since 1970. */
	sinceMs: number;
	memoryMiB: number;
	cpus: number;
	/** Directory of the template. */
	template?: string;
	/** The host's files that the lab can see. */
	shares?: readonly Share[];
	/** Why the lab can see all files of the host: the kernel's error when a namespace was to be made. */
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

	/** Removes what a killed lab has left. @returns false when the lab is up */
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

	/** Removes the directory. Only the holder of the lock may call it. */
	remove(): void {
		try {
			const others = readdirSync(this.directory).filter((name) => name !== basename(this.lock));
			for (const name of others) rmSync(join(this.directory, name), { recursive: true });
			/* Last, because without this file the next `lab up` makes and locks a new one. What it puts here stays. */
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
	/** As readBroken. Removes the note, so that it is read once. */
	takeBroken(): string | undefined {
		const broken = this.readBroken();
		if (broken !== undefined) rmSync(this.failure, { force: true });
		return broken;
	}
	/** What a broken lab "did not ... any more". Undefined when the lab is not broken. */
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

/** Writes a new file and renames it, so that a reader sees the old text or the new one. */
function writeJson(path: string, value: unknown): void {
	writeFileSync(`${path}.new`, `${JSON.stringify(value)}\n`, { mode: 0o600 });
	renameSync(`${path}.new`, path);
}

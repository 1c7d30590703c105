/*
 * Where pools are: machines that were made of a template and run, and wait for a container. There is one pool for each
 * template and each way to start processes, so that a machine of it can stand in for one of the caller's own:
 *
 *     runtimeDirectory()/pool/KEY/lock, control.sock, supervisor.log     of its supervisor (supervisor.ts)
 *     runtimeDirectory()/pool/KEY/N.sock, N.log                     of a machine (waiting-supervisor.ts)
 */
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { runtimeDirectory, stateDirectory } from "../../host/directories.ts";
import { isLocked } from "../../host/file-lock.ts";
import { inheritance } from "../../host/inheritance.ts";
import { ownProgram } from "../../host/own-program.ts";
import { type TemplateShape, templatePath } from "../template/store.ts";

const KEY_DIGITS = 16;
const SOCKET = /^\d+\.sock$/;

export class PoolPaths {
	readonly key: string;
	readonly directory: string;
	readonly lock: string;
	readonly control: string;
	readonly log: string;

	constructor(key: string) {
		this.key = key;
		this.directory = join(poolsDirectory(), key);
		this.lock = join(this.directory, "lock");
		this.control = join(this.directory, "control.sock");
		this.log = join(this.directory, "supervisor.log");
	}

	/** The pool for machines of that shape, and callers like this process. */
	static of(shape: TemplateShape): PoolPaths {
		const program = ownProgram();
		/* Another build of tsvmm has another time. */
		const { mtimeMs } = statSync(program.at(-1)!);
		const parts = [templatePath(shape), stateDirectory(), process.execPath, ...program, mtimeMs, inheritance()];
		return new PoolPaths(createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, KEY_DIGITS));
	}

	/** Of a machine. */
	socket(number: number): string {
		return join(this.directory, `${number}.sock`);
	}

	/** Of a machine, until it is taken. */
	machineLog(number: number): string {
		return join(this.directory, `${number}.log`);
	}

	/** Of all machines that wait. */
	sockets(): string[] {
		if (!existsSync(this.directory)) return [];
		const names = readdirSync(this.directory).filter((name) => SOCKET.test(name));
		return names.map((name) => join(this.directory, name));
	}

	/** Whether its supervisor lives. */
	isSupervised(): boolean {
		if (!existsSync(this.lock)) return false;
		const fd = openSync(this.lock, "r+");
		try {
			return isLocked(fd);
		} finally {
			closeSync(fd);
		}
	}
}

/** Whether any machine waits, as far as can be told without asking. */
export function machinesWait(): boolean {
	return poolKeys().some((key) => new PoolPaths(key).sockets().length > 0);
}

/** The keys of all pools, also of those whose supervisor has gone. */
export function poolKeys(): string[] {
	const directory = poolsDirectory();
	return existsSync(directory) ? readdirSync(directory).sort() : [];
}

function poolsDirectory(): string {
	return join(runtimeDirectory(), "pool");
}

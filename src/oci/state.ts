/*
 * The state of the runtime's containers: a directory for each below --root, with state.json and the sockets of the
 * container's process. It lies in a tmpfs and is gone after a restart of the host, as its containers are.
 *
 *     ROOT/ID/state.json   what `state` and `list` tell, and what the commands must know
 *     ROOT/ID/control      requests to the container's process (control.ts)
 *     ROOT/ID/seccomp      the filter for the system calls of its processes; only if config.json asks for one
 *     ROOT/ID/agent        the agent of its machine, for more processes; only of the machine's owner
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { SeccompFilter } from "../agent/exec-spec.ts";
import { errnoName, explain } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { OciError } from "./runtime-error.ts";

/** How long a process that was killed may take to be gone. */
const END_MS = 10_000;
const POLL_MS = 10;

/** The version of the runtime-spec that is implemented. */
export const OCI_VERSION = "1.0.2";

const Status = z.enum(["creating", "created", "running", "paused", "stopped"]);
export type Status = z.infer<typeof Status>;

/** A process of the host: when it began, in the kernel's clock ticks, tells it from a later one of its number. */
const Process = z.object({ pid: z.number(), startTicks: z.string() });
export type HostProcess = z.infer<typeof Process>;

export const NO_PROCESS: HostProcess = { pid: 0, startTicks: "" };

const Record = z.object({
	id: z.string(),
	status: Status,
	/** The process that stands for the container on this host; none before it is there. */
	process: Process,
	/** The process that has the container's machine, or is in another one's; the same one without a stand-in. */
	machine: Process,
	bundle: z.string(),
	rootfs: z.string(),
	created: z.string(),
	annotations: z.record(z.string(), z.string()),
	/** The container whose machine it is in; itself when it has its own. */
	sandbox: z.string(),
	terminal: z.boolean(),
	/** Where the host counts what its machine uses; gone with it. */
	cgroups: z.array(z.string()),
});
export type ContainerRecord = z.infer<typeof Record>;

export class OciContainer {
	readonly id: string;
	readonly directory: string;
	readonly #state: string;

	constructor(root: string, id: string) {
		this.id = id;
		this.directory = join(root, id);
		this.#state = join(this.directory, "state.json");
	}

	get control(): string {
		return join(this.directory, "control");
	}

	get agent(): string {
		return join(this.directory, "agent");
	}

	/** The filter for the system calls of its processes, once it is created. @throws OciError ERR_OCI_STATE */
	get filter(): SeccompFilter | undefined {
		const path = join(this.directory, "seccomp");
		try {
			const [flags = "", program = ""] = readFileSync(path, "latin1").split(":");
			return { flags: Number(flags), program: Buffer.from(program, "hex") };
		} catch (cause) {
			if (errnoName(cause) === "ENOENT") return undefined;
			throw new OciError("ERR_OCI_STATE", `open ${path}: ${explain(cause)}`, { cause });
		}
	}

	/** @throws OciError ERR_OCI_STATE */
	writeFilter({ flags, program }: SeccompFilter): void {
		this.#replace("seccomp", `${flags}:${Buffer.from(program).toString("hex")}`);
	}

	/** What its machine's agent calls it. */
	get agentName(): string {
		return createHash("sha256").update(this.id).digest("hex").slice(0, 20);
	}

	/** All containers of the same root. */
	siblings(): ContainerRecord[] {
		return listContainers(join(this.directory, ".."));
	}

	/** Another container of the same root. */
	sibling(id: string): OciContainer {
		return new OciContainer(join(this.directory, ".."), id);
	}

	/** @throws OciError ERR_OCI_EXISTS */
	make(): void {
		try {
			mkdirSync(join(this.directory, ".."), { recursive: true, mode: 0o711 });
			mkdirSync(this.directory, { mode: 0o711 });
		} catch (cause) {
			if (errnoName(cause) === "EEXIST") throw new OciError("ERR_OCI_EXISTS", "container with given ID already exists");
			throw new OciError("ERR_OCI_STATE", `mkdir ${this.directory}: ${explain(cause)}`, { cause });
		}
	}

	remove(): void {
		rmSync(this.directory, { recursive: true, force: true });
	}

	/** @throws OciError ERR_OCI_STATE, such as for a disk that is full */
	write(record: ContainerRecord): void {
		this.#replace("state.json", JSON.stringify(record));
	}

	#replace(name: string, content: string): void {
		const path = join(this.directory, name);
		const temporary = `${path}.${process.pid}`;
		try {
			writeFileSync(temporary, content, { mode: 0o644 });
			renameSync(temporary, path);
		} catch (cause) {
			throw new OciError("ERR_OCI_STATE", `write ${path}: ${explain(cause)}`, { cause });
		}
	}

	/**
	 * What is known of it, with its status now.
	 *
	 * @throws OciError ERR_OCI_MISSING, ERR_OCI_STATE when its file is damaged
	 */
	read(): ContainerRecord {
		let text: string;
		try {
			text = readFileSync(this.#state, "utf8");
		} catch (cause) {
			if (errnoName(cause) === "ENOENT" || errnoName(cause) === "ENOTDIR")
				throw new OciError("ERR_OCI_MISSING", "container does not exist");
			throw new OciError("ERR_OCI_STATE", `open ${this.#state}: ${explain(cause)}`, { cause });
		}
		let record: ContainerRecord;
		try {
			record = Record.parse(JSON.parse(text));
		} catch (cause) {
			throw new OciError("ERR_OCI_STATE", `${this.#state} is damaged`, { cause });
		}
		return isAlive(record) ? record : { ...record, status: "stopped" };
	}
}

/** All containers below `root`; a directory without a state is none. */
export function listContainers(root: string): ContainerRecord[] {
	let names: string[];
	try {
		names = readdirSync(root);
	} catch {
		return [];
	}
	return names.flatMap((name) => {
		try {
			return [new OciContainer(root, name).read()];
		} catch {
			return [];
		}
	});
}

/** @throws OciError ERR_OCI_ID for what is no name of a container */
export function checkId(id: string): string {
	if (id === "") throw new OciError("ERR_OCI_ID", "container id cannot be empty");
	if (!/^[\w+.-]+$/.test(id) || id === "." || id === "..") throw new OciError("ERR_OCI_ID", `invalid id format: ${id}`);
	return id;
}

/** "creating" is the state of a container whose process is not there yet. */
function isAlive({ process, status }: ContainerRecord): boolean {
	return process.pid === 0 ? status === "creating" : runs(process);
}

/** Whether a process has not ended. */
export function runs({ pid, startTicks }: HostProcess): boolean {
	return pid !== 0 && startTicksOf(pid) === startTicks;
}

/** Waits for the end of a process that was killed, or is about to end. @returns false when it takes too long */
export function hasEnded(one: HostProcess): Promise<boolean> {
	return becomes(() => !runs(one));
}

/** Waits until processes are as they are about to be. @returns false when it takes too long */
export async function becomes(isSo: () => boolean): Promise<boolean> {
	const until = Date.now() + END_MS;
	while (!isSo() && Date.now() < until) await sleep(POLL_MS);
	return isSo();
}

/** A process that runs now. */
export function hostProcess(pid: number): HostProcess {
	return { pid, startTicks: startTicksOf(pid) };
}

/** When a process has begun; "" when it has ended, even if nobody has waited for it yet. */
function startTicksOf(pid: number): string {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, "latin1");
		/* The name is in parentheses and may hold anything (proc(5)). */
		const [state = "", ...fields] = text.slice(text.lastIndexOf(")") + 2).split(" ");
		return state === "Z" || state === "X" ? "" : (fields[18] ?? "");
	} catch {
		return "";
	}
}

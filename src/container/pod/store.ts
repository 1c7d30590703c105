/*
 * The pods of this user. A pod is a machine that containers join, kept as a directory:
 *
 *     STATE/pods/ID/     config.json, state.json, lock, operation.lock: as those of a container (life/paths.ts)
 *     RUNTIME/p/ID12/    control: the socket of its supervisor
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoName, HostError, UsageError } from "../../base/errors.ts";
import * as z from "../../base/schema.ts";
import { runtimeDirectory, stateDirectory } from "../../host/directories.ts";
import { publish } from "../../host/durable-file.ts";
import { withFileLock } from "../../host/file-lock.ts";
import { Networking } from "../life/config.ts";
import { recordPodEvent } from "../life/events.ts";
import { randomName } from "../life/random-name.ts";
import { type ContainerState, CREATED, damaged, isSupervised, readState } from "../life/state.ts";
import { ContainerStore, type StoredContainer } from "../life/store.ts";
import { writingState } from "../state-failure.ts";

const PodConfig = z.object({
	version: z.literal(1),
	/** 64 hexadecimal digits. */
	id: z.string(),
	name: z.string(),
	/** ISO 8601. */
	created: z.string(),
	cpus: z.number(),
	memoryMiB: z.number(),
	network: z.optional(Networking),
	kernel: z.optional(z.string()),
	labels: z.record(z.string(), z.string()),
});
export type PodConfig = z.infer<typeof PodConfig>;

export interface PodPaths {
	readonly directory: string;
	readonly config: string;
	readonly state: string;
	readonly lock: string;
	readonly operationLock: string;
	readonly sockets: string;
	readonly control: string;
}

const ID = /^[0-9a-f]{64}$/;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/;

const podsDirectory = () => join(stateDirectory(), "pods");

/** A pod of the store. */
export class StoredPod {
	readonly id: string;
	readonly paths: PodPaths;
	#config: PodConfig | undefined;

	constructor(id: string) {
		this.id = id;
		const directory = join(podsDirectory(), id);
		const sockets = join(runtimeDirectory(), "p", id.slice(0, 12));
		const inside = (name: string) => join(directory, name);
		this.paths = {
			directory,
			config: inside("config.json"),
			state: inside("state.json"),
			lock: inside("lock"),
			operationLock: inside("operation.lock"),
			sockets,
			control: join(sockets, "control"),
		};
	}

	get shortId(): string {
		return this.id.slice(0, 12);
	}

	/** Read once. @throws HostError ERR_CONTAINER_STATE when it is damaged */
	get config(): PodConfig {
		try {
			this.#config ??= PodConfig.parse(JSON.parse(readFileSync(this.paths.config, "utf8")));
			return this.#config;
		} catch (error) {
			throw damaged(this.paths.config, error, "pod");
		}
	}

	#configIfReadable(): PodConfig | undefined {
		try {
			return this.config;
		} catch {
			return undefined;
		}
	}

	/** How its machine is now. @throws HostError ERR_CONTAINER_STATE when its file is damaged */
	state(): ContainerState {
		return readState(this.paths, "pod");
	}

	/** Whether the process that owns its machine lives. */
	isSupervised(): boolean {
		return isSupervised(this.paths);
	}

	/** Its containers, running or not, the newest first. */
	members(): StoredContainer[] {
		return new ContainerStore().list().filter(({ config }) => config.joins?.id === this.id);
	}

	/** Runs `work` while no other start, stop or removal of this pod is under way. */
	async exclusively<T>(work: () => Promise<T>): Promise<T> {
		return await writingState(() => withFileLock(this.paths.operationLock, work));
	}

	/** Removes its files, once its supervisor has ended. */
	async erase(): Promise<void> {
		await rm(this.paths.sockets, { recursive: true, force: true });
		/* By rename first: nobody finds half of it. */
		const doomed = join(podsDirectory(), `.${this.id}`);
		const config = this.#configIfReadable();
		await rename(this.paths.directory, doomed);
		if (config !== undefined) recordPodEvent(config, "remove");
		await rm(doomed, { recursive: true, force: true });
	}
}

/** Makes a pod. @throws UsageError ERR_POD_NAME; HostError ERR_POD_NAME_IN_USE */
export async function createPod(
	config: Omit<PodConfig, "version" | "id" | "name" | "created">,
	name?: string,
): Promise<StoredPod> {
	if (name !== undefined && !NAME.test(name)) {
		throw new UsageError("ERR_POD_NAME", `Cannot name a pod "${name}"`, {
			hint: "Use a letter or digit, then letters, digits, dots, dashes and underscores",
		});
	}
	const directory = podsDirectory();
	return await alone(directory, async () => {
		await collectLeftovers(directory);
		const names = new Map(listPods().map((pod) => [pod.config.name, pod]));
		const holder = name === undefined ? undefined : names.get(name);
		if (holder !== undefined) {
			throw new HostError("ERR_POD_NAME_IN_USE", `Cannot name the pod "${name}": pod ${holder.shortId} has that name`, {
				hint: `Remove that one: tsvmm pod rm ${name}`,
			});
		}
		const pod = new StoredPod(randomBytes(32).toString("hex"));
		const temporary = join(directory, `.${pod.id}`);
		const whole: PodConfig = {
			...config,
			version: 1,
			id: pod.id,
			name: name ?? randomName((candidate) => names.has(candidate)),
			created: new Date().toISOString(),
		};
		try {
			await mkdir(temporary, { mode: 0o700 });
			await writeFile(join(temporary, "config.json"), JSON.stringify(whole, undefined, "\t"));
			await writeFile(join(temporary, "state.json"), JSON.stringify(CREATED, undefined, "\t"));
			await writeFile(join(temporary, "lock"), "");
			await publish(temporary, pod.paths.directory);
		} catch (error) {
			await rm(temporary, { recursive: true, force: true });
			throw error;
		}
		recordPodEvent(whole, "create");
		return pod;
	});
}

/** Pods are made by one process at a time. */
async function alone<T>(directory: string, work: () => Promise<T>): Promise<T> {
	return await writingState(async () => {
		mkdirSync(directory, { recursive: true, mode: 0o700 });
		return await withFileLock(join(directory, ".lock"), work);
	});
}

/** All pods, the newest first. Those that cannot be read are left out; `onDamaged` is told. */
export function listPods(onDamaged: (error: unknown) => void = () => undefined): StoredPod[] {
	const readable = ids().flatMap((id) => {
		const pod = new StoredPod(id);
		try {
			return [{ pod, created: pod.config.created }];
		} catch (error) {
			onDamaged(error);
			return [];
		}
	});
	return readable.sort((a, b) => (a.created < b.created ? 1 : -1)).map(({ pod }) => pod);
}

/** By name, ID, or the beginning of one ID alone. @throws HostError ERR_POD_NOT_FOUND */
export function findPod(text: string): StoredPod {
	const named = listPods().find((pod) => pod.config.name === text);
	if (named !== undefined) return named;
	const begun = /^[0-9a-f]+$/.test(text) ? ids().filter((id) => id.startsWith(text)) : [];
	if (begun.length === 1) return new StoredPod(begun[0]!);
	const found = begun.length > 1 ? `${begun.length} IDs begin so` : "no such pod";
	throw new HostError("ERR_POD_NOT_FOUND", `Cannot find pod ${text}: ${found}`, {
		hint: "See tsvmm pod ps for their names",
	});
}

/** What creates and removals that were killed have left. The caller holds the lock. */
async function collectLeftovers(directory: string): Promise<void> {
	for (const name of readdirSync(directory)) {
		if (/^\.[0-9a-f]{64}$/.test(name)) await rm(join(directory, name), { recursive: true, force: true });
	}
}

function ids(): string[] {
	try {
		return readdirSync(podsDirectory()).filter((name) => ID.test(name));
	} catch (error) {
		if (errnoName(error) === "ENOENT") return [];
		throw error;
	}
}

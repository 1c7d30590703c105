/*
 * The containers of this user: made, found by name or ID, listed, renamed, removed. Every command reads the truth from
 * their directories (paths.ts); there is no daemon that knows more.
 */
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PortForward } from "../../backends/passt-ports.ts";
import { errnoName, HostError, UsageError } from "../../base/errors.ts";
import { publish, writeDurably } from "../../host/durable-file.ts";
import { withFileLock } from "../../host/file-lock.ts";
import { stateFailure, writingState } from "../state-failure.ts";
import { VolumeStore } from "../volume/store.ts";
import { ContainerConfig, publishedPorts } from "./config.ts";
import { recordEvent } from "./events.ts";
import { ContainerPaths, containersDirectory } from "./paths.ts";
import { randomName } from "./random-name.ts";
import { type ContainerState, CREATED, damaged, isSupervised, readState } from "./state.ts";

const ID = /^[0-9a-f]{64}$/;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** What `create` decides by itself. */
type Given = "version" | "id" | "name" | "created";

export class ContainerStore {
	readonly directory = containersDirectory();

	/**
	 * Makes a container. Its directory appears whole or not at all.
	 *
	 * @param name a free one is chosen when missing
	 * @throws UsageError ERR_CONTAINER_NAME for a name that is none; HostError ERR_CONTAINER_NAME_IN_USE
	 */
	async create(config: Omit<ContainerConfig, Given>, name?: string): Promise<StoredContainer> {
		if (name !== undefined) checkName(name);
		return this.#alone(async () => {
			const names = new Set(this.#ids().map((id) => this.#open(id).nameIfReadable));
			if (name !== undefined) this.#mustBeFree(name);
			const id = randomBytes(32).toString("hex");
			const paths = new ContainerPaths(id);
			const temporary = join(this.directory, `.${id}`);
			await mkdir(temporary, { mode: 0o700 });
			try {
				const whole: ContainerConfig = {
					...config,
					version: 1,
					id,
					name: name ?? randomName((candidate) => names.has(candidate)),
					created: new Date().toISOString(),
				};
				await writeFile(join(temporary, "config.json"), serialise(whole));
				await writeFile(join(temporary, "state.json"), serialise(CREATED));
				await writeFile(join(temporary, "lock"), "");
				await publish(temporary, paths.directory);
			} catch (error) {
				await rm(temporary, { recursive: true, force: true });
				throw error;
			}
			const container = new StoredContainer(paths);
			container.record("create");
			return container;
		});
	}

	/** All containers, the newest first. Those whose files are damaged are left out; `onDamaged` is told. */
	list(onDamaged: (error: unknown) => void = () => undefined): StoredContainer[] {
		const readable = this.#ids().flatMap((id) => {
			const container = this.#open(id);
			try {
				return [{ container, created: container.config.created }];
			} catch (error) {
				if (!isGone(error)) onDamaged(error);
				return [];
			}
		});
		return readable
			.sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0))
			.map(({ container }) => container);
	}

	/**
	 * The container that a user's word names: a name, an ID, or the beginning of one ID alone.
	 *
	 * @throws HostError ERR_CONTAINER_NOT_FOUND, ERR_CONTAINER_AMBIGUOUS
	 */
	find(text: string): StoredContainer {
		const all = this.#ids().map((id) => this.#open(id));
		const named = all.find((container) => container.nameIfReadable === text.replace(/^\//, ""));
		if (named !== undefined) return named;
		const begun = /^[0-9a-f]+$/.test(text) ? all.filter(({ paths }) => paths.id.startsWith(text)) : [];
		if (begun.length === 1) return begun[0]!;
		if (begun.length > 1) {
			throw new HostError(
				"ERR_CONTAINER_AMBIGUOUS",
				`Cannot tell which container is ${text}: ${begun.length} IDs begin so`,
			);
		}
		throw notFound(text);
	}

	/** Gives a container another name. @throws as create */
	async rename(container: StoredContainer, name: string): Promise<void> {
		checkName(name);
		await this.#alone(async () => {
			const { config } = container.reload();
			if (config.name === name) {
				throw new UsageError("ERR_CONTAINER_NAME", "Cannot rename the container: the new name is its old one");
			}
			this.#mustBeFree(name);
			await writeDurably(container.paths.config, serialise({ ...config, name }));
			container.record("rename", { oldName: `/${config.name}` });
		});
	}

	/** Changes what a container is, from its next start on. */
	async change(container: StoredContainer, change: (config: ContainerConfig) => ContainerConfig): Promise<void> {
		await this.#alone(async () => {
			const { config } = container.reload();
			await writeDurably(container.paths.config, serialise(change(config)));
			container.reload();
		});
	}

	/** Removes what creates and removals that were killed have left. */
	async collectLeftovers(): Promise<void> {
		const left = () => entries(this.directory).filter((name) => name.startsWith(".") && name !== ".lock");
		if (left().length === 0) return;
		await this.#alone(async () => {
			for (const name of left()) await rm(join(this.directory, name), { recursive: true, force: true });
		});
	}

	/** Containers are made, renamed and swept by one process at a time. */
	async #alone<T>(work: () => Promise<T>): Promise<T> {
		return await writingState(async () => {
			await mkdir(this.directory, { recursive: true, mode: 0o700 });
			return await withFileLock(join(this.directory, ".lock"), work);
		});
	}

	#mustBeFree(name: string): void {
		const holder = this.#ids()
			.map((id) => this.#open(id))
			.find((container) => container.nameIfReadable === name);
		if (holder === undefined) return;
		throw new HostError(
			"ERR_CONTAINER_NAME_IN_USE",
			`Cannot name the container "${name}": container ${holder.paths.id.slice(0, 12)} has that name`,
			{ hint: `Remove or rename that one: tsvmm rm ${name}` },
		);
	}

	#ids(): string[] {
		return entries(this.directory).filter((name) => ID.test(name));
	}

	#open(id: string): StoredContainer {
		return new StoredContainer(new ContainerPaths(id));
	}
}

/** A container of the store. */
export class StoredContainer {
	readonly paths: ContainerPaths;
	#config: ContainerConfig | undefined;

	constructor(paths: ContainerPaths) {
		this.paths = paths;
	}

	get id(): string {
		return this.paths.id;
	}

	/** Docker's CONTAINER ID. */
	get shortId(): string {
		return this.id.slice(0, 12);
	}

	/** Read once. @throws HostError ERR_CONTAINER_STATE when it is damaged, ERR_CONTAINER_NOT_FOUND when it is gone */
	get config(): ContainerConfig {
		this.#config ??= readConfig(this.paths);
		return this.#config;
	}

	/** Its name; undefined when config.json cannot be read. */
	get nameIfReadable(): string | undefined {
		return this.#configIfReadable()?.name;
	}

	/** How it is now. @throws HostError ERR_CONTAINER_STATE */
	state(): ContainerState {
		return readState(this.paths);
	}

	/** The ports of the host that lead to it now. */
	livePorts(): readonly PortForward[] {
		const { status, publishes } = this.state();
		const runs = status === "running" || status === "paused" || status === "restarting";
		return runs && publishes !== false ? publishedPorts(this.config) : [];
	}

	/** Whether the process that owns its machine lives. */
	isSupervised(): boolean {
		return isSupervised(this.paths);
	}

	/** Reads config.json anew. */
	reload(): this {
		this.#config = undefined;
		return this;
	}

	/** Tells `events` what has happened to it. One that is gone or damaged is passed over. */
	record(action: string, attributes?: Record<string, string>): void {
		/* Anew: it may have another name by now. */
		const config = this.reload().#configIfReadable();
		if (config !== undefined) recordEvent(config, action, attributes);
	}

	#configIfReadable(): ContainerConfig | undefined {
		try {
			return this.config;
		} catch {
			return undefined;
		}
	}

	/** Runs `work` while no other start or removal of this container is under way. @throws ERR_CONTAINER_NOT_FOUND */
	async exclusively<T>(work: () => Promise<T>): Promise<T> {
		const { operationLock, directory } = this.paths;
		const locked = withFileLock(operationLock, async () => {
			/* Who had the lock before may have removed the container, or renamed it. */
			if (entries(directory).length === 0) throw notFound(this.shortId);
			this.reload();
			return await work();
		});
		return await locked.catch((error: unknown) => {
			throw error instanceof HostError && errnoName(error.cause) === "ENOENT" && error.code === "ERR_LOCK"
				? notFound(this.shortId)
				: stateFailure(error);
		});
	}

	/**
	 * Removes its files. For a holder of the lock, once its supervisor has ended.
	 *
	 * @param options.volumes removes its anonymous volumes, too
	 */
	async erase({ volumes = false } = {}): Promise<void> {
		const { directory, sockets } = this.paths;
		const mounts = volumes && this.nameIfReadable !== undefined ? this.config.mounts : [];
		await rm(sockets, { recursive: true, force: true });
		/* By rename first: nobody finds half of it. */
		const doomed = join(containersDirectory(), `.${this.id}.${randomBytes(4).toString("hex")}`);
		const config = this.#configIfReadable();
		await rename(directory, doomed);
		if (config !== undefined) recordEvent(config, "destroy");
		await rm(doomed, { recursive: true, force: true });
		const store = new VolumeStore();
		for (const { volume } of mounts) if (volume !== undefined) await store.removeAnonymous(volume);
	}
}

function readConfig(paths: ContainerPaths): ContainerConfig {
	try {
		const config = ContainerConfig.parse(JSON.parse(readFileSync(paths.config, "utf8")));
		if (config.id !== paths.id) throw new SyntaxError("it is of another container");
		return config;
	} catch (error) {
		if (errnoName(error) === "ENOENT" && entries(paths.directory).length === 0) throw notFound(paths.id.slice(0, 12));
		throw damaged(paths.config, error);
	}
}

function isGone(error: unknown): boolean {
	return error instanceof HostError && error.code === "ERR_CONTAINER_NOT_FOUND";
}

function notFound(text: string): HostError {
	return new HostError("ERR_CONTAINER_NOT_FOUND", `Cannot find container ${text}: no such container`, {
		hint: "See tsvmm ps -a for their names",
	});
}

function checkName(name: string): void {
	if (NAME.test(name) && name.length <= 255) return;
	throw new UsageError("ERR_CONTAINER_NAME", `Cannot name a container "${name}"`, {
		hint: "Use a letter or digit, then letters, digits, dots, dashes and underscores",
	});
}

function serialise(value: unknown): string {
	return `${JSON.stringify(value, undefined, "\t")}\n`;
}

function entries(directory: string): string[] {
	try {
		return readdirSync(directory);
	} catch (error) {
		if (errnoName(error) === "ENOENT") return [];
		throw error;
	}
}

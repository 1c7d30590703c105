/*
 * User names and passwords for registries, where Docker keeps them: $DOCKER_CONFIG/config.json or ~/.docker/config.json,
 * with the programs that it names (docker-credential-pass and the like) for what is not in the file.
 * `tsvmm login` and `docker login` see each other's.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, realpath } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { errnoName, explain, HostError } from "../../base/errors.ts";
import { run } from "../../host/command.ts";
import { cacheDirectory } from "../../host/directories.ts";
import { temporaryPath, writeDurably } from "../../host/durable-file.ts";
import { withFileLock } from "../../host/file-lock.ts";
import { findTool } from "../../host/tools.ts";
import { DOCKER_HUB } from "./location.ts";

/** A registry's credentials: a password, or the token of an earlier log-in. */
export type Credentials = { readonly username: string; readonly password: string } | { readonly identityToken: string };

/** Docker's own key for its hub, older than registries with names. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";
const DOCKER_HUB_HOSTS = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];
/** What a program says as the user when the secret is an identity token. */
const TOKEN_USER = "<token>";
const PROGRAM_TIMEOUT_MS = 60_000;

interface StoredAuth {
	auth?: string;
	username?: string;
	password?: string;
	identitytoken?: string;
}

interface DockerConfigFile {
	auths?: Record<string, StoredAuth>;
	credHelpers?: Record<string, string>;
	credsStore?: string;
	[other: string]: unknown;
}

export class DockerConfig {
	readonly path: string;

	constructor({ DOCKER_CONFIG }: NodeJS.ProcessEnv = process.env) {
		this.path = join(DOCKER_CONFIG || join(homedir(), ".docker"), "config.json");
	}

	/**
	 * The credentials for a registry ("docker.io", "localhost:5000"); undefined when there are none.
	 *
	 * @throws HostError ERR_REGISTRY_CREDENTIALS when the file cannot be read or a helper fails
	 */
	async find(registry: string, signal?: AbortSignal): Promise<Credentials | undefined> {
		const config = this.#read();
		const program = programOf(config, registry);
		if (program !== undefined) {
			const found = await this.#ask(program, registry, signal);
			if (found !== undefined) return found;
		}
		const keys = Object.keys(config.auths ?? {}).filter((key) => isKeyOf(key, registry));
		const exact = keys.find((key) => key === keyOf(registry)) ?? keys[0];
		return exact === undefined ? undefined : decode(config.auths![exact]!, exact, this.path);
	}

	/** Keeps credentials. @returns where they are: the file's path, or the program's name */
	async store(registry: string, { username, password }: { username: string; password: string }): Promise<string> {
		const key = keyOf(registry);
		return this.#change(async (config) => {
			const program = programOf(config, registry);
			const auths = { ...config.auths };
			if (program !== undefined) {
				await callProgram(program, "store", JSON.stringify({ ServerURL: key, Username: username, Secret: password }));
				auths[key] = {};
			} else auths[key] = { auth: Buffer.from(`${username}:${password}`).toString("base64") };
			return { config: { ...config, auths }, result: program ?? this.path };
		});
	}

	/** Forgets credentials. @returns false when there were none */
	async erase(registry: string): Promise<boolean> {
		if (!existsSync(this.path)) return false;
		return this.#change(async (config) => {
			const program = programOf(config, registry);
			const kept = program === undefined ? undefined : await this.#ask(program, registry);
			if (program !== undefined && kept !== undefined) await callProgram(program, "erase", keyOf(registry));
			const auths = { ...config.auths };
			const keys = Object.keys(auths).filter((key) => isKeyOf(key, registry));
			for (const key of keys) delete auths[key];
			const result = keys.length > 0 || kept !== undefined;
			return { config: keys.length > 0 ? { ...config, auths } : undefined, result };
		});
	}

	#read(): DockerConfigFile {
		try {
			const config: unknown = JSON.parse(readFileSync(this.path, "utf8"));
			if (typeof config !== "object" || config === null || Array.isArray(config))
				throw new Error("it is no JSON object");
			return config as DockerConfigFile;
		} catch (error) {
			if (errnoName(error) === "ENOENT") return {};
			throw failure(`read ${this.path}`, explain(error), error);
		}
	}

	/** Changes the file under a lock, so that two log-ins at once both last. A symbolic link stays one. */
	async #change<T>(
		change: (config: DockerConfigFile) => Promise<{ config: DockerConfigFile | undefined; result: T }>,
	): Promise<T> {
		return withFileLock(join(cacheDirectory(), "docker-config.lock"), async () => {
			const { config, result } = await change(this.#read());
			if (config === undefined) return result;
			try {
				await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
				const path = await realpath(this.path).catch(() => this.path);
				await writeDurably(path, `${JSON.stringify(config, undefined, "\t")}\n`, temporaryPath(path), 0o600);
			} catch (error) {
				throw failure(`write ${this.path}`, explain(error), error);
			}
			return result;
		});
	}

	async #ask(program: string, registry: string, signal?: AbortSignal): Promise<Credentials | undefined> {
		const answer = await callProgram(program, "get", keyOf(registry), signal);
		if (answer === undefined) return undefined;
		try {
			const { Username, Secret } = JSON.parse(answer) as { Username?: unknown; Secret?: unknown };
			if (typeof Username !== "string" || typeof Secret !== "string") throw new Error("Username and Secret are wanted");
			if (Username === "" && Secret === "") return undefined;
			return Username === TOKEN_USER ? { identityToken: Secret } : { username: Username, password: Secret };
		} catch (error) {
			throw failure(`get credentials for ${registry}`, `${program} has given no credentials`, error);
		}
	}
}

function programOf({ credHelpers, credsStore }: DockerConfigFile, registry: string): string | undefined {
	const name = credHelpers?.[registry] ?? credHelpers?.[keyOf(registry)] ?? credsStore;
	if (typeof name !== "string" || name === "") return undefined;
	if (/^[\w.-]+$/.test(name)) return `docker-credential-${name}`;
	throw failure(`get credentials for ${registry}`, `"${name}" is no name of a credential helper`);
}

/** Undefined when the program has none, which the protocol's message says. */
async function callProgram(
	program: string,
	verb: "get" | "store" | "erase",
	input: string,
	signal?: AbortSignal,
): Promise<string | undefined> {
	if (findTool(program) === undefined) {
		throw failure(`${verb} credentials`, `${program}, which Docker's config.json names, is not installed`);
	}
	const limit = AbortSignal.timeout(PROGRAM_TIMEOUT_MS);
	const ends = signal === undefined ? limit : AbortSignal.any([signal, limit]);
	const { status, stdout, stderr } = await run(program, [verb], { input, signal: ends, accept: "any" }).catch(
		(error) => {
			if (limit.aborted && !signal?.aborted) throw failure(`${verb} credentials`, `${program} does not end`, error);
			throw error;
		},
	);
	if (status === 0) return stdout;
	const found = (stdout.trim() || stderr.trim()).split("\n")[0]!;
	if (verb === "get" && /credentials not found/.test(found)) return undefined;
	throw failure(`${verb} credentials`, `${program}: ${found || `exit status ${status}`}`);
}

function keyOf(registry: string): string {
	return registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
}

/** Keys are hosts, or addresses that old versions of Docker have written: "https://quay.io/v1/". */
function isKeyOf(key: string, registry: string): boolean {
	const host = key.replace(/^https?:\/\//, "").split("/")[0]!;
	return registry === DOCKER_HUB ? DOCKER_HUB_HOSTS.includes(host) : host === registry;
}

function decode(stored: StoredAuth, key: string, path: string): Credentials | undefined {
	if (stored.identitytoken) return { identityToken: stored.identitytoken };
	if (stored.username && stored.password) return { username: stored.username, password: stored.password };
	if (!stored.auth) return undefined;
	const text = Buffer.from(stored.auth, "base64").toString("utf8").replace(/\0+$/, "");
	const colon = text.indexOf(":");
	if (colon < 1) throw failure(`read ${path}`, `"auth" of ${key} is not the base64 of user:password`);
	return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function failure(attempt: string, found: string, cause?: unknown): HostError {
	return new HostError("ERR_REGISTRY_CREDENTIALS", `Cannot ${attempt}: ${found}`, { cause });
}

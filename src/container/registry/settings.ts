/*
 * What the user has set about registries: environment variables, then a file, ~/.config/tsvmm/registries.json:
 *
 *     { "mirrors": { "docker.io": ["https://mirror.example"] }, "insecure": ["10.0.0.5:5000"] }
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errnoName, explain, HostError, UsageError } from "../../base/errors.ts";
import { configDirectory } from "../../host/directories.ts";
import { DOCKER_HUB, isLoopback } from "./location.ts";

export interface RegistrySettings {
	/** Registries that may be asked without TLS, or with a certificate that nobody vouches for. */
	readonly insecure: ReadonlySet<string>;
	/** Base addresses to ask before a registry, by its name. */
	readonly mirrors: ReadonlyMap<string, readonly URL[]>;
	/** How long a registry may be silent, in ms. */
	readonly timeoutMs: number;
	/** The first pause before another attempt, in ms; each further one is twice as long. */
	readonly retryMs: number;
}

const TIMEOUT_SECONDS = 30;
const RETRY_MS = 500;

/**
 * Reads them: TSVMM_REGISTRY_MIRROR (for docker.io), TSVMM_INSECURE_REGISTRIES, TSVMM_REGISTRY_TIMEOUT and the file.
 *
 * @throws UsageError ERR_REGISTRY_SETTINGS that names the variable or the file
 */
export function registrySettings(env: NodeJS.ProcessEnv = process.env): RegistrySettings {
	const path = join(configDirectory(env), "registries.json");
	const file = readFile(path);
	const mirrors = new Map<string, URL[]>();
	for (const [registry, addresses] of Object.entries(file.mirrors)) {
		mirrors.set(
			registry,
			addresses.map((address) => parseMirror(address, path)),
		);
	}
	const words = (text: string | undefined) => (text ?? "").split(/[\s,]+/).filter((word) => word !== "");
	const first = words(env.TSVMM_REGISTRY_MIRROR).map((address) => parseMirror(address, "TSVMM_REGISTRY_MIRROR"));
	if (first.length > 0) mirrors.set(DOCKER_HUB, [...first, ...(mirrors.get(DOCKER_HUB) ?? [])]);
	return {
		insecure: new Set([...file.insecure, ...words(env.TSVMM_INSECURE_REGISTRIES)]),
		mirrors,
		timeoutMs: 1000 * parseTimeout(env.TSVMM_REGISTRY_TIMEOUT),
		retryMs: RETRY_MS,
	};
}

/** True for what may be asked by plain http. */
export function isInsecure({ insecure }: RegistrySettings, host: string): boolean {
	return isLoopback(host) || insecure.has(host);
}

interface SettingsFile {
	readonly mirrors: Readonly<Record<string, readonly string[]>>;
	readonly insecure: readonly string[];
}

function readFile(path: string): SettingsFile {
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		if (errnoName(error) === "ENOENT") return { mirrors: {}, insecure: [] };
		throw new HostError("ERR_REGISTRY_SETTINGS", `Cannot read ${path}: ${explain(error)}`, { cause: error });
	}
	try {
		const value: unknown = JSON.parse(text);
		if (Array.isArray(value)) throw new Error("it is no JSON object");
		const { mirrors = {}, insecure = [] } = value as Partial<SettingsFile>;
		const isList = (list: unknown) => Array.isArray(list) && list.every((one) => typeof one === "string");
		if (!isList(insecure)) throw new Error('"insecure" is no list of names');
		if (!Object.values(mirrors).every(isList)) throw new Error('"mirrors" has no list of addresses for each registry');
		return { mirrors, insecure };
	} catch (error) {
		throw invalid(path, (error as Error).message, error);
	}
}

function parseMirror(address: string, where: string): URL {
	const url = URL.canParse(address) ? new URL(address) : undefined;
	if (url?.protocol === "https:" || url?.protocol === "http:") return url;
	throw invalid(where, `mirror "${address}" is no https:// or http:// address`);
}

function parseTimeout(text: string | undefined): number {
	if (text === undefined || text === "") return TIMEOUT_SECONDS;
	const seconds = Number(text);
	if (seconds > 0 && seconds <= 3600) return seconds;
	throw invalid("TSVMM_REGISTRY_TIMEOUT", `"${text}" is no number of seconds from 1 to 3600`);
}

function invalid(where: string, found: string, cause?: unknown): UsageError {
	return new UsageError("ERR_REGISTRY_SETTINGS", `Cannot use ${where}: ${found}`, {
		hint: "See docs/registries.md for what can be set",
		cause,
	});
}

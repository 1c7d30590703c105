/*
 * apt with its own lists, cache and sources in a directory of ours. So it works without root and never changes the
 * state of the host's apt. It uses the host's keys and proxy settings, but not its hooks.
 */
import { mkdir, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HostError } from "../base/errors.ts";
import { type RunResult, run } from "../host/command.ts";
import { type DebianSource, formatSources } from "./sources.ts";

/** How long lists are fresh, in milliseconds. */
const FRESH_MS = 6 * 3600 * 1000;

/** Room for the lists, their index and the largest package that we fetch. */
const ROOM_BYTES = 256 * 2 ** 20;

const CONFIG = (directory: string) => `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear Dir::Etc::preferencesparts;
Dir::State "${directory}/state";
Dir::State::status "${directory}/status";
Dir::Cache "${directory}/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "${directory}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "${directory}/preferences";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
`;

export class Apt {
	readonly #directory: string;
	readonly #sources: readonly DebianSource[];
	readonly #signal: AbortSignal | undefined;

	/**
	 * @param directory a directory for this set of sources alone
	 * @param signal ends apt
	 */
	constructor(directory: string, sources: readonly DebianSource[], signal?: AbortSignal) {
		this.#directory = directory;
		this.#sources = sources;
		this.#signal = signal;
	}

	/** Updates the lists, with `force` also fresh ones. @throws HostError ERR_DOWNLOAD */
	async update(force = false): Promise<void> {
		const directory = this.#directory;
		for (const sub of ["state/lists/partial", "cache/archives/partial", "sources", "preferences"]) {
			await mkdir(join(directory, sub), { recursive: true });
		}
		const stamp = join(directory, "updated");
		const sources = formatSources(this.#sources);
		const age = await stat(stamp).then(
			({ mtimeMs }) => Date.now() - mtimeMs,
			() => Number.POSITIVE_INFINITY,
		);
		await writeFile(join(directory, "status"), "");
		await writeFile(join(directory, "apt.conf"), CONFIG(directory));
		await writeFile(join(directory, "sources/tsvmm.sources"), sources);
		if (!force && age < FRESH_MS) return;
		await needRoom(directory);
		const result = await this.#run("apt-get", ["-q", "update"]);
		if (result.status !== 0) throw downloadFailed("Debian's package lists", result);
		await writeFile(stamp, "");
	}

	/** The fields of a package's newest or given version, or undefined when there is none. */
	async show(name: string, version?: string): Promise<Map<string, string> | undefined> {
		const wanted = version === undefined ? name : `${name}=${version}`;
		const { status, stdout } = await this.#run("apt-cache", ["show", "--no-all-versions", wanted]);
		if (status !== 0) return undefined;
		const fields = new Map<string, string>();
		for (const line of stdout.split("\n\n")[0]!.split("\n")) {
			const match = /^([A-Za-z0-9-]+): (.*)$/.exec(line);
			if (match !== null) fields.set(match[1]!, match[2]!);
		}
		return fields.get("Package") === name ? fields : undefined;
	}

	/** An empty directory to download into. Files that a killed download has left are removed. */
	async downloadDirectory(): Promise<string> {
		const directory = join(this.#directory, "download");
		await rm(directory, { recursive: true, force: true });
		await mkdir(directory);
		return directory;
	}

	/** Downloads into `directory`. apt checks the file against the signed lists. @throws HostError ERR_DOWNLOAD */
	async download(name: string, version: string, directory: string): Promise<void> {
		await needRoom(directory);
		const result = await this.#run("apt-get", ["-q", "download", `${name}=${version}`], directory);
		if (result.status !== 0) throw downloadFailed(`${name} ${version}`, result);
	}

	#run(tool: string, args: string[], cwd?: string): Promise<RunResult> {
		return run(tool, ["-c", join(this.#directory, "apt.conf"), ...args], {
			accept: "any",
			env: { LC_ALL: "C" },
			...(cwd === undefined ? {} : { cwd }),
			...(this.#signal === undefined ? {} : { signal: this.#signal }),
		});
	}
}

/** On a full disk apt's downloader stops without a message and never ends. */
async function needRoom(directory: string): Promise<void> {
	const { bavail, bsize } = await statfs(directory);
	if (bavail * bsize >= ROOM_BYTES) return;
	const [free, wanted] = [bavail * bsize, ROOM_BYTES].map((bytes) => Math.floor(bytes / 2 ** 20));
	throw new HostError("ERR_CACHE", `Cannot download to ${directory}: ${free} MiB are free, ${wanted} MiB are needed`, {
		hint: "Set TSVMM_CACHE to a directory on a larger disk",
	});
}

function downloadFailed(what: string, { stderr }: RunResult): HostError {
	const lines = stderr
		.split("\n")
		.filter((line) => /^[EW]: /.test(line))
		.slice(0, 4)
		.join("\n");
	return new HostError("ERR_DOWNLOAD", `Cannot download ${what}: ${lines || stderr.trim()}`, {
		hint: "Check the network and the Debian mirror in /etc/apt; `apt-get update` should work",
	});
}

/*
 * Debian packages as files. apt fetches them and checks signatures and hashes. They are kept in the cache and unpacked
 * without being installed. Several processes may do so at once: apt's directory is locked, and results appear by
 * rename.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { errnoName, explain, HostError, ImageError } from "../base/errors.ts";
import { run } from "../host/command.ts";
import { cacheDirectory } from "../host/directories.ts";
import { publish } from "../host/durable-file.ts";
import { withFileLock } from "../host/file-lock.ts";
import { Apt } from "./apt.ts";
import { readSources, sourceFor } from "./sources.ts";

/** The suite that packages come from by default. */
export const DEFAULT_SUITE = "bookworm";

export interface PackageOptions {
	/** The exact version; the newest when missing. */
	version?: string;
	/** A suite such as "bookworm-backports"; DEFAULT_SUITE (with its security updates) when missing. */
	suite?: string;
	/** The file's hash in hexadecimal, checked besides apt's own check. */
	sha256?: string;
	/** Ends the download when it aborts. Nothing of it stays. */
	signal?: AbortSignal;
}

/** What the archive says of a package. */
export interface PackageDescription {
	name: string;
	version: string;
	sha256: string;
	depends: string;
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
	const hash = createHash("sha256");
	await pipeline(createReadStream(path), hash);
	return hash.digest("hex");
}

/** Runs `work` with apt for a suite. Only one process that shares the cache does so at a time. */
async function withApt<T>(suite: string, signal: AbortSignal | undefined, work: (apt: Apt) => Promise<T>): Promise<T> {
	const directory = join(cacheDirectory(), "apt", suite);
	await mkdir(directory, { recursive: true });
	const sources = readSources();
	const suites = suite.includes("-") ? [suite] : [suite, ...securityOf(suite, sources)];
	const apt = new Apt(
		directory,
		suites.map((name) => sourceFor(name, sources)),
		signal,
	);
	return await withFileLock(join(directory, "lock"), () => work(apt), signal);
}

/** The security suite, if the host has it. Its URI cannot be derived from the main archive's. */
function securityOf(suite: string, sources: readonly { suite: string; components: string[] }[]): string[] {
	const name = `${suite}-security`;
	return sources.some((source) => source.suite === name && source.components.includes("main")) ? [name] : [];
}

function notFound(name: string, version: string | undefined, suite: string): HostError {
	return new HostError(
		"ERR_PACKAGE_NOT_FOUND",
		`Cannot find Debian package ${name}${version === undefined ? "" : ` ${version}`} in ${suite}`,
		{ hint: version === undefined ? undefined : "Take another version: the mirror may have dropped this one" },
	);
}

/** Looks a package up. If it is not in lists that are hours old, asks the mirror again. */
async function lookUp(apt: Apt, name: string, version: string | undefined): Promise<PackageDescription | undefined> {
	await apt.update();
	let fields = await apt.show(name, version);
	if (fields === undefined) {
		await apt.update(true);
		fields = await apt.show(name, version);
	}
	if (fields === undefined) return undefined;
	return {
		name,
		version: fields.get("Version") ?? "",
		sha256: fields.get("SHA256") ?? "",
		depends: fields.get("Depends") ?? "",
	};
}

/**
 * What the archive says of a package.
 *
 * @throws HostError ERR_PACKAGE_NOT_FOUND, ERR_DOWNLOAD
 */
export async function describePackage(name: string, options: PackageOptions = {}): Promise<PackageDescription> {
	const { suite = DEFAULT_SUITE, version } = options;
	const found = await withApt(suite, options.signal, (apt) => lookUp(apt, name, version));
	if (found === undefined) throw notFound(name, version, suite);
	return found;
}

function cachedPath(name: string, version: string): string {
	return join(cacheDirectory(), "debs", `${name}_${version.replaceAll(":", "%3a")}.deb`);
}

/**
 * Downloads a package, unless the cache has it.
 *
 * @returns the path of the .deb in the cache
 * @throws HostError ERR_PACKAGE_NOT_FOUND, ERR_DOWNLOAD; ImageError ERR_PACKAGE_HASH
 * @example const deb = await fetchPackage("busybox-static");
 */
export async function fetchPackage(name: string, options: PackageOptions = {}): Promise<string> {
	const { suite = DEFAULT_SUITE, version, sha256, signal } = options;
	if (version !== undefined && sha256 !== undefined && (await isCached(cachedPath(name, version), sha256))) {
		return cachedPath(name, version);
	}
	return await withApt(suite, signal, async (apt) => {
		const found = await lookUp(apt, name, version);
		if (found === undefined) throw notFound(name, version, suite);
		if (sha256 !== undefined && found.sha256 !== sha256) throw wrongHash(found, sha256, found.sha256);
		const path = cachedPath(name, found.version);
		if (await isCached(path, found.sha256)) return path;
		await download(apt, found, path, signal);
		return path;
	});
}

async function isCached(path: string, sha256: string): Promise<boolean> {
	try {
		return (await hashFile(path)) === sha256;
	} catch (error) {
		if (errnoName(error) === "ENOENT") return false;
		throw new HostError("ERR_CACHE", `Cannot read ${path}: ${explain(error)}`, { cause: error });
	}
}

/** The caller holds apt's lock. */
async function download(
	apt: Apt,
	found: PackageDescription,
	path: string,
	signal: AbortSignal | undefined,
): Promise<void> {
	await mkdir(dirname(path), { recursive: true });
	const directory = await apt.downloadDirectory();
	try {
		try {
			await apt.download(found.name, found.version, directory);
		} catch (error) {
			if (signal?.aborted) throw error;
			/* The mirror may have replaced a file since the lists were fetched. */
			await apt.update(true);
			await apt.download(found.name, found.version, directory);
		}
		const name = (await readdir(directory)).find((entry) => entry.endsWith(".deb"));
		if (name === undefined) throw new HostError("ERR_DOWNLOAD", `Cannot download ${found.name}: apt left no file`);
		const hash = await hashFile(join(directory, name));
		if (hash !== found.sha256) throw wrongHash(found, found.sha256, hash);
		await publish(join(directory, name), path);
	} finally {
		await rm(directory, { recursive: true, force: true });
	}
}

function wrongHash(found: PackageDescription, wanted: string, is: string): ImageError {
	return new ImageError(
		"ERR_PACKAGE_HASH",
		`Cannot use Debian package ${found.name} ${found.version}: its SHA-256 is ${is}, not ${wanted}`,
	);
}

/**
 * Unpacks a package's files into a new directory, which appears complete or not at all. Does nothing if it exists.
 *
 * @throws HostError ERR_TOOL_FAILED when the package is damaged
 */
export async function unpackPackage(deb: string, directory: string, signal?: AbortSignal): Promise<void> {
	const exists = () =>
		stat(directory).then(
			() => true,
			() => false,
		);
	if (await exists()) return;
	await mkdir(dirname(directory), { recursive: true });
	const partial = await mkdtemp(join(dirname(directory), `.${basename(directory)}-`));
	try {
		await run("dpkg-deb", ["-x", deb, join(partial, "root")], signal === undefined ? {} : { signal });
		await rename(join(partial, "root"), directory);
	} catch (error) {
		/* Another process was quicker. Its directory has the same files. */
		const code = errnoName(error);
		if ((code !== "ENOTEMPTY" && code !== "EEXIST") || !(await exists())) throw error;
	} finally {
		await rm(partial, { recursive: true, force: true });
	}
}

/*
 * snapshot.json: what a snapshot is of, and the checksums of its other files. One of an older format is brought up to date
 * when it is read (migrate.ts); one of a newer format is refused.
 */
import { readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { explain, SnapshotError } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { FORMAT, migrate } from "./migrate.ts";

/**
 * Which file a checksum was taken of. Whatever writes to a file changes its time of change, so a file that has the same
 * seal has the same content, and need not be read to its end before a machine starts.
 */
const Seal = z.object({ device: z.string(), inode: z.string(), size: z.number(), changedNs: z.string() });
export type Seal = z.infer<typeof Seal>;

const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));
const wholePages = z.int().check(z.minimum(0), z.multipleOf(4096));

const Manifest = z.object({
	format: z.literal(FORMAT),
	/** Says which snapshot it is: by its checksums when it was taken. `mergeSnapshot` keeps it. */
	id: sha256,
	/** The version that has written it. */
	tsvmm: z.string(),
	created: z.string(),
	machine: z.object({
		cpus: z.int(),
		memoryMiB: z.int(),
		/** Path of the kernel that was booted, as it was given. */
		kernel: z.string(),
		cmdline: z.string(),
		/** In the order in which the guest has found them. */
		devices: z.array(z.object({ id: z.string(), slot: z.int(), name: z.string() })),
	}),
	/** The container that the machine was of; the files beside are its own (container/life/saved-container.ts). */
	container: z.optional(z.object({ id: z.string(), name: z.string(), image: z.string() })),
	/** Which snapshot has the pages that this one has not; missing when it has all. */
	base: z.optional(
		z.object({
			/** As seen from this snapshot's directory. */
			path: z.string(),
			id: sha256,
			/** Of the file "pages", which says which pages this one has. */
			pagesSha256: sha256,
		}),
	),
	/** The file "state". */
	state: z.object({ bytes: z.int().check(z.minimum(0)), sha256 }),
	/** The file "memory". */
	memory: z.object({ bytes: wholePages, usedBytes: wholePages, sha256, seal: Seal }),
});
export type Manifest = z.infer<typeof Manifest>;

/** What a snapshot says about itself. @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION */
export async function readManifest(path: string): Promise<Manifest> {
	return parseManifest(path, await reading(path, () => readFile(join(path, "snapshot.json"), "utf8")));
}

/** A snapshot, and what it says about itself. */
export interface Described {
	readonly path: string;
	readonly manifest: Manifest;
}

/** The base of a snapshot; undefined when it has none. @throws SnapshotError ERR_SNAPSHOT_BASE */
export async function readBase({ path, manifest: { base, memory } }: Described): Promise<Described | undefined> {
	if (base === undefined) return undefined;
	const below = join(await realpath(path), base.path);
	const wrong = (why: string, cause?: unknown) =>
		new SnapshotError("ERR_SNAPSHOT_BASE", `Cannot use the snapshot ${path}: its base ${below} ${why}`, { cause });
	let manifest: Manifest;
	try {
		manifest = await readManifest(below);
	} catch (cause) {
		throw wrong(`cannot be read: ${explain(cause)}`, cause);
	}
	if (manifest.id !== base.id || manifest.memory.bytes !== memory.bytes) throw wrong("is another snapshot");
	return { path: below, manifest };
}

/** Runs what reads files of a snapshot. @throws SnapshotError ERR_SNAPSHOT_MISSING for errors of other kinds */
export async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
	try {
		return await read();
	} catch (cause) {
		if (cause instanceof SnapshotError) throw cause;
		throw new SnapshotError("ERR_SNAPSHOT_MISSING", `Cannot read the snapshot ${path}: ${explain(cause)}`, { cause });
	}
}

function parseManifest(path: string, text: string): Manifest {
	const value = parseJson(path, text);
	const { format } = (value ?? {}) as { format?: unknown };
	if (typeof format === "number" && format > FORMAT) {
		const message = `Cannot use the snapshot ${path}: its format is ${format}, this tsvmm reads 1 to ${FORMAT}`;
		throw new SnapshotError("ERR_SNAPSHOT_VERSION", message, { hint: "Use the version of tsvmm that has made it" });
	}
	const found = Manifest.safeParse(migrate(value));
	if (found.success) return found.data;
	const { path: field, message } = found.error.issues[0]!;
	throw malformed(path, `${field.join(".") || "it"}: ${message}`);
}

function parseJson(path: string, text: string): unknown {
	try {
		return JSON.parse(text);
	} catch (cause) {
		throw malformed(path, (cause as Error).message);
	}
}

function malformed(path: string, why: string): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_FORMAT", `Cannot use the snapshot ${path}: ${why}`);
}

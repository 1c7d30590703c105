/*
 * snapshot.json: what a snapshot is of, and the checksums of its other files. A reader of another format refuses it, or
 * brings it up to date first.
 */
import * as z from "zod";
import { SnapshotError } from "../base/errors.ts";

/** The format that this tsvmm writes. */
export const FORMAT = 1;

/**
 * Which file a checksum was taken of. Whatever writes to a file changes its time of change, so a file that has the same
 * seal has the same content, and need not be read to its end before a machine starts.
 */
const Seal = z.object({ device: z.string(), inode: z.string(), size: z.number(), changedNs: z.string() });
export type Seal = z.infer<typeof Seal>;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Manifest = z.object({
	format: z.literal(FORMAT),
	/** The version that has written it. */
	tsvmm: z.string(),
	created: z.string(),
	machine: z.object({
		cpus: z.number().int(),
		memoryMiB: z.number().int(),
		/** Path of the kernel that was booted, as it was given. */
		kernel: z.string(),
		cmdline: z.string(),
		/** In the order in which the guest has found them. */
		devices: z.array(z.object({ id: z.string(), slot: z.number().int(), name: z.string() })),
	}),
	/** The file "state". */
	state: z.object({ bytes: z.number().int().min(0), sha256 }),
	/** The file "memory". */
	memory: z.object({ bytes: z.number().int().min(0), usedBytes: z.number().int().min(0), sha256, seal: Seal }),
});
export type Manifest = z.infer<typeof Manifest>;

/** @param path for messages. @throws SnapshotError ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION */
export function parseManifest(path: string, text: string): Manifest {
	const value = parseJson(path, text);
	const { format } = (value ?? {}) as { format?: unknown };
	if (typeof format === "number" && format !== FORMAT) {
		const message = `Cannot use the snapshot ${path}: its format is ${format}, this tsvmm reads ${FORMAT}`;
		throw new SnapshotError("ERR_SNAPSHOT_VERSION", message, { hint: "Use the version of tsvmm that has made it" });
	}
	const found = Manifest.safeParse(value);
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

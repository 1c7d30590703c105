/*
 * The JSON documents of images, checked field by field at import: OCI layout, index, manifest and configuration
 * (image-spec 1.1), Docker's forms of them, and docker-archive's manifest.json. Fields that are not listed here are
 * ignored, as the specification asks. Only this file loads zod.
 */
import * as z from "../../base/schema.ts";
import type { ImageConfig, ImageHealthcheck } from "./config.ts";
import { malformed } from "./failure.ts";

/** Largest JSON document that is read: registries allow 4 MiB for a manifest. */
export const MAX_DOCUMENT_BYTES = 4 * 2 ** 20;

const digest = z.string().check(z.regex(/^sha256:[0-9a-f]{64}$/, "sha256: and 64 hexadecimal digits are wanted"));
/** Go writes null for an empty list or map. */
const maybe = <T extends z.ZodType>(type: T) =>
	z.pipe(
		z.nullish(type),
		z.transform((value) => value ?? undefined),
	);
const strings = maybe(z.array(z.string()));

const descriptor = z.object({
	mediaType: maybe(z.string()),
	digest,
	size: z.int().check(z.minimum(0), z.maximum(Number.MAX_SAFE_INTEGER)),
	annotations: maybe(z.record(z.string(), z.string())),
	platform: maybe(z.object({ os: z.string(), architecture: z.string(), variant: maybe(z.string()) })),
});

const layout = z.object({ imageLayoutVersion: z.string().check(z.regex(/^1\./, "only version 1 is known")) });
const index = z.object({ schemaVersion: z.literal(2), manifests: z.array(descriptor) });
const manifest = z.object({
	schemaVersion: z.literal(2),
	config: descriptor,
	layers: z.array(descriptor).check(z.maxLength(1000, "more than 1000 layers")),
});
const config = z.object({
	architecture: z.string(),
	os: z.string(),
	created: maybe(z.string()),
	config: maybe(
		z.object({
			Env: strings,
			Entrypoint: strings,
			Cmd: strings,
			WorkingDir: maybe(z.string()),
			User: maybe(z.string()),
			Labels: maybe(z.record(z.string(), z.string())),
			ExposedPorts: maybe(z.record(z.string(), z.unknown())),
			StopSignal: maybe(z.string()),
			/* Docker's; the OCI specification has none. Times are in nanoseconds. */
			Healthcheck: maybe(
				z.object({
					Test: strings,
					Interval: maybe(z.number()),
					Timeout: maybe(z.number()),
					StartPeriod: maybe(z.number()),
					Retries: maybe(z.number()),
				}),
			),
		}),
	),
	rootfs: z.object({ type: z.literal("layers"), diff_ids: maybe(z.array(digest)) }),
});
const archiveManifest = z
	.array(
		z.object({
			Config: z.string().check(z.minLength(1)),
			RepoTags: strings,
			Layers: maybe(z.array(z.string().check(z.minLength(1))).check(z.maxLength(1000))),
		}),
	)
	.check(z.minLength(1, "it lists no image"));

export type Descriptor = z.output<typeof descriptor>;
export type Manifest = z.output<typeof manifest>;
export type ArchiveManifest = z.output<typeof archiveManifest>;

/** A configuration as the importer needs it. */
export interface ParsedConfig {
	readonly config: ImageConfig;
	readonly created: string | undefined;
	readonly diffIds: readonly string[];
}

export const parseLayout = (data: Buffer, file: string) => parse(layout, data, file);
export const parseIndex = (data: Buffer, file: string) => parse(index, data, file);
export const parseManifest = (data: Buffer, file: string) => parse(manifest, data, file);
export const parseArchiveManifest = (data: Buffer, file: string) => parse(archiveManifest, data, file);

export function parseConfig(data: Buffer, file: string): ParsedConfig {
	const { architecture, os, created, config: run, rootfs } = parse(config, data, file);
	return {
		created,
		diffIds: rootfs.diff_ids ?? [],
		config: {
			env: run?.Env ?? [],
			entrypoint: run?.Entrypoint ?? [],
			cmd: run?.Cmd ?? [],
			workingDir: run?.WorkingDir ?? "",
			user: run?.User ?? "",
			labels: run?.Labels ?? {},
			exposedPorts: Object.keys(run?.ExposedPorts ?? {}),
			stopSignal: run?.StopSignal,
			healthcheck: healthcheckOf(run?.Healthcheck),
			architecture,
			os,
		},
	};
}

const NS_PER_MS = 1_000_000;

/** Undefined when the image has none, or says NONE. */
function healthcheckOf(
	found: NonNullable<z.output<typeof config>["config"]>["Healthcheck"],
): ImageHealthcheck | undefined {
	const [kind, ...words] = found?.Test ?? [];
	const args = kind === "CMD" ? words : kind === "CMD-SHELL" ? ["/bin/sh", "-c", ...words] : [];
	if (found === undefined || words.length === 0 || args.length === 0) return undefined;
	const ms = (ns: number | undefined) => (ns === undefined || ns <= 0 ? undefined : Math.ceil(ns / NS_PER_MS));
	return {
		args,
		intervalMs: ms(found.Interval),
		timeoutMs: ms(found.Timeout),
		startPeriodMs: ms(found.StartPeriod),
		retries: found.Retries === undefined || found.Retries < 1 ? undefined : found.Retries,
	};
}

/** True when the document is a list of manifests. Its media type is not asked. */
export function isIndex(data: Buffer): boolean {
	try {
		return Array.isArray((JSON.parse(data.toString("utf8")) as { manifests?: unknown } | null)?.manifests);
	} catch {
		return false;
	}
}

function parse<T extends z.ZodType>(schema: T, data: Buffer, file: string): z.output<T> {
	if (data.length === 0) throw malformed(file, "it is empty");
	let value: unknown;
	try {
		value = JSON.parse(data.toString("utf8"));
	} catch (error) {
		throw malformed(file, `it is not JSON (${(error as Error).message})`, error);
	}
	const result = schema.safeParse(value);
	if (result.success) return result.data;
	const issue = result.error.issues[0]!;
	const field = issue.path.reduce<string>(
		(at, key) => at + (typeof key === "number" ? `[${key}]` : `.${String(key)}`),
		"",
	);
	throw malformed(file, `${field.replace(/^\./, "") || "the document"}: ${issue.message}`, result.error);
}

/*
 * What `-v` and `--mount` say: a directory or file of the host (bind), a volume, or a tmpfs at a path of the container.
 */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { explain, HostError, UsageError } from "../../base/errors.ts";
import type { TmpfsMount } from "../setup-steps.ts";
import type { ContainerShare } from "../shares.ts";
import { checkVolumeName, type VolumeStore } from "./store.ts";

/** A directory or file of the host that a container has, as config.json keeps it. */
export interface ContainerMount {
	type: "bind" | "volume";
	/** Absolute path on the host. */
	source: string;
	/** Absolute path in the container. */
	target: string;
	readOnly: boolean;
	/** Of a volume. */
	volume?: string | undefined;
	/** A volume that gets what the image has at the target, as long as it is empty. */
	copy?: boolean | undefined;
}

/** What the user asked for, before anything is made. */
export interface MountRequest {
	type: "bind" | "volume";
	/** A path of the host, or a volume's name; an anonymous volume when missing. */
	source?: string;
	target: string;
	readOnly: boolean;
	/** A directory of the host that is not there is made. */
	makeSource: boolean;
	/** The volume stays empty, whatever the image has at the target. */
	noCopy?: boolean;
}

const OPTIONS = /^(?:ro|rw|z|Z|cached|delegated|consistent|nocopy|r?private|r?shared|r?slave)$/;

/**
 * Reads a `-v`: "/data", "name:/data", "/host:/data", "./here:/data:ro".
 *
 * @throws UsageError ERR_RUN_VOLUME, ERR_VOLUME_NAME
 */
export function readVolumeFlag(text: string): MountRequest {
	const parts = text.split(":");
	const [source, target, options = ""] = parts.length === 1 ? [undefined, parts[0]!] : parts;
	const words = options === "" ? [] : options.split(",");
	if (parts.length > 3 || source === "" || !isTarget(target) || words.some((word) => !OPTIONS.test(word))) {
		throw invalid(text, "Write [SOURCE:]TARGET[:ro], with a directory or a volume's name as the source");
	}
	const readOnly = words.includes("ro");
	const volume = { type: "volume" as const, target: target!, readOnly, makeSource: false };
	const noCopy = words.includes("nocopy") ? { noCopy: true } : {};
	if (source === undefined) return { ...volume, ...noCopy };
	if (!/^(?:[./]|~\/)/.test(source)) {
		checkVolumeName(source);
		return { ...volume, ...noCopy, source };
	}
	return { type: "bind", source: resolve(source), target: target!, readOnly, makeSource: true };
}

/**
 * Reads a `--mount`: "type=bind,source=/host,target=/data,readonly", "type=tmpfs,target=/run,tmpfs-size=64m".
 *
 * @throws UsageError ERR_RUN_VOLUME, ERR_VOLUME_NAME
 */
export function readMountFlag(text: string): MountRequest | TmpfsMount {
	const fields = new Map<string, string>();
	for (const field of text.split(",")) {
		const at = field.indexOf("=");
		const key = MOUNT_KEYS[at < 0 ? field : field.slice(0, at)];
		if (key === undefined) throw invalid(text, `Use the fields ${Object.keys(MOUNT_KEYS).join(", ")}`);
		fields.set(key, at < 0 ? "true" : field.slice(at + 1));
	}
	const type = fields.get("type") ?? "volume";
	const target = fields.get("target");
	const source = fields.get("source");
	if (!isTarget(target)) throw invalid(text, "Give an absolute path as its target");
	if (type === "tmpfs" && source === undefined) {
		const options = [...fields].flatMap(([key, value]) =>
			key === "size" || key === "mode" ? [`${key}=${value}`] : [],
		);
		return { target, ...(options.length === 0 ? {} : { options: options.join(",") }) };
	}
	const isSet = (key: string) => ["true", "1", ""].includes(fields.get(key) ?? "false");
	const readOnly = isSet("readonly");
	if (type === "volume") {
		if (source !== undefined) checkVolumeName(source);
		const noCopy = isSet("nocopy") ? { noCopy: true } : {};
		return { type, target, readOnly, makeSource: false, ...(source === undefined ? {} : { source }), ...noCopy };
	}
	if (type === "bind" && source !== undefined) {
		return { type, source: resolve(source), target, readOnly, makeSource: false };
	}
	throw invalid(text, "Use type=bind with a source, type=volume or type=tmpfs");
}

const MOUNT_KEYS: Readonly<Record<string, string>> = {
	type: "type",
	source: "source",
	src: "source",
	target: "target",
	destination: "target",
	dst: "target",
	readonly: "readonly",
	ro: "readonly",
	"tmpfs-size": "size",
	"tmpfs-mode": "mode",
	"bind-propagation": "propagation",
	"volume-nocopy": "nocopy",
};

/**
 * Makes what is missing of the sources: volumes, and directories of `-v`.
 *
 * @throws HostError ERR_RUN_VOLUME_SOURCE when a source is not there and is not to be made, or cannot be
 */
export async function prepareMounts(
	requests: readonly MountRequest[],
	volumes: VolumeStore,
): Promise<ContainerMount[]> {
	const mounts: ContainerMount[] = [];
	makeSources(requests);
	try {
		for (const request of requests) mounts.push(await prepareMount(request, volumes));
		return mounts;
	} catch (error) {
		await dropMounts(mounts, volumes);
		throw error;
	}
}

async function prepareMount(
	{ type, source, target, readOnly, noCopy = false }: MountRequest,
	volumes: VolumeStore,
): Promise<ContainerMount> {
	if (type === "bind") {
		if (!existsSync(source!)) throw missing(source!, "no such file or directory");
		return { type, source: source!, target, readOnly };
	}
	const { name, mountpoint } = await volumes.create(source);
	/* What the guest cannot write it cannot fill. */
	const copy = noCopy || readOnly ? {} : { copy: true };
	return { type, source: mountpoint, target, readOnly, volume: name, ...copy };
}

/** Removes the volumes that were made for a container alone which is not made after all. */
export async function dropMounts(mounts: readonly ContainerMount[], volumes: VolumeStore): Promise<void> {
	for (const { volume } of mounts) if (volume !== undefined) await volumes.removeAnonymous(volume);
}

/** The mounts as the container's machine has them, at a start of it. */
export function mountShares(mounts: readonly ContainerMount[]): ContainerShare[] {
	return mounts.map(({ source, target, readOnly, copy = false }) => {
		/* Most volumes are filled already, and the guest is not asked. */
		const fill = copy && existsSync(source) && readdirSync(source).length === 0;
		return { source, target, readOnly, ...(fill ? { fill } : {}) };
	});
}

/** Makes the directories of the host that `-v` names and that are not there. @throws HostError ERR_RUN_VOLUME_SOURCE */
export function makeSources(requests: readonly MountRequest[]): void {
	for (const { type, source, makeSource } of requests) {
		if (type === "bind" && makeSource && !existsSync(source!)) makeDirectory(source!);
	}
}

function makeDirectory(path: string): void {
	try {
		mkdirSync(path, { recursive: true });
	} catch (error) {
		throw missing(path, explain(error), error);
	}
}

function missing(path: string, found: string, cause?: unknown): HostError {
	return new HostError("ERR_RUN_VOLUME_SOURCE", `Cannot mount ${path}: ${found}`, { cause });
}

function isTarget(path: string | undefined): path is string {
	return path?.startsWith("/") === true && path !== "/" && !/[\t\n\0]/.test(path);
}

function invalid(text: string, hint: string): UsageError {
	return new UsageError("ERR_RUN_VOLUME", `Cannot read mount "${text}"`, { hint });
}

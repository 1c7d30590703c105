/*
 * The mounts of config.json (OCI runtime-spec config.md, "Mounts"): file systems of the guest's own kernel, and
 * directories and files of the host, which come through the machine's tree of shares.
 */
import { realpathSync, statSync } from "node:fs";
import { basename } from "node:path";
import { explain } from "../base/errors.ts";
import type { SetupStep } from "../container/setup-steps.ts";
import { isBind, type Mount } from "./bundle.ts";
import { OciError } from "./runtime-error.ts";
import type { SharedMemory } from "./shared-memory.ts";

/** Where the agent's own root has the machine's shares. */
export const SHARES = "/run/shares";

/** A directory or file of the host for the machine's tree. */
export interface Share {
	/** Its entry in the tree. */
	name: string;
	/** On the host. */
	path: string;
	readOnly: boolean;
}

/** What a container needs of its host, and the steps that give it that. */
export interface Mounted {
	shares: Share[];
	/** In the agent's root, before the container's own root is there. */
	before: SetupStep[];
	/** In the container's root. */
	after: SetupStep[];
}

/** How a mount spreads to others: nothing of it crosses the wall of the machine. */
const PROPAGATION = /^r?(?:private|shared|slave|unbindable)$/;
/** What only a host's bind mount may have, or what a recursive flag would do. */
const WITHOUT_MEANING = /^(?:r?bind|copy|nocopy|idmap|ridmap|[zZU]|defaults)$/;
/** A recursive flag is the flag itself: a share is one mount in the guest. */
const RECURSIVE = /^r(?=ro$|rw$|nosuid$|nodev$|noexec$|noatime$|nodiratime$|relatime$)/;

/**
 * The mounts of a container.
 *
 * @param name tells its shares from those of others in the machine
 * @param memory the machine's
 * @throws OciError ERR_OCI_MOUNT for a source that is not there, or a kind of mount that a guest cannot have
 */
export function mountsOf(name: string, mounts: readonly Mount[], memory?: SharedMemory): Mounted {
	const found: Mounted = { shares: [], before: [], after: [] };
	for (const mount of mounts) {
		if (memory !== undefined && isMemory(mount, memory)) addMemory(found, memory, mount);
		else if (isBind(mount)) addBind(found, `${name}-${found.shares.length}`, mount);
		else found.after.push(...ownMount(mount));
	}
	return found;
}

function isMemory(mount: Mount, { source }: SharedMemory): boolean {
	return isBind(mount) && mount.source === source;
}

function addMemory({ before, after }: Mounted, { path }: SharedMemory, { destination, options }: Mount): void {
	before.push(["take", `shm\t${path}`]);
	after.push(["attach", ["shm", checked(destination), flagsOf(options).join()].join("\t")]);
}

function addBind({ shares, before, after }: Mounted, name: string, { source = "", destination, options }: Mount): void {
	let isDirectory: boolean;
	try {
		isDirectory = statSync(source).isDirectory();
	} catch (cause) {
		throw new OciError(
			"ERR_OCI_MOUNT",
			`error mounting ${JSON.stringify(source)} to rootfs at ${JSON.stringify(destination)}: stat ${source}: ${explain(cause)}`,
			{ cause },
		);
	}
	const flags = flagsOf(options);
	shares.push({ name, path: source, readOnly: flags.includes("ro") });
	const within = isDirectory ? "" : `/${basename(realpathSync(source))}`;
	before.push(["take", `${name}\t${SHARES}/${name}${within}`]);
	after.push(["attach", [name, checked(destination), flags.join()].join("\t")]);
}

function ownMount({ type = "", source = "", destination, options }: Mount): SetupStep[] {
	const flags = flagsOf(options);
	const mount = (kind: string, more: readonly string[] = []): SetupStep => [
		"mount",
		[kind, source === "" ? kind : source, checked(destination), [...flags, ...more].join()].join("\t"),
	];
	switch (type) {
		case "cgroup":
		case "cgroup2":
			/* The guest has one hierarchy, whatever the host has. A kernel without it will do. */
			return [["mount?", ["cgroup2", "cgroup", checked(destination), ownFlags(flags).join()].join("\t")]];
		case "mqueue":
			return [["mount?", ["mqueue", "mqueue", checked(destination), flags.join()].join("\t")]];
		case "proc":
		case "sysfs":
			return [["mount", [type, source, checked(destination), ownFlags(flags).join()].join("\t")]];
		case "tmpfs":
		case "devpts":
		case "overlay":
			return [mount(type)];
		default:
			throw new OciError(
				"ERR_OCI_MOUNT",
				`error mounting ${JSON.stringify(source)} to rootfs at ${JSON.stringify(destination)}: no such device`,
			);
	}
}

function flagsOf(options: readonly string[]): string[] {
	return options
		.filter((option) => !PROPAGATION.test(option) && !WITHOUT_MEANING.test(option))
		.map((option) => option.replace(RECURSIVE, ""));
}

/** Without options of a file system of the host that the guest's does not have. */
function ownFlags(flags: readonly string[]): string[] {
	return flags.filter((flag) => !flag.includes("="));
}

/** @throws OciError ERR_OCI_MOUNT for a path that no step could carry */
function checked(destination: string): string {
	if (!/[\t\n\0]/.test(destination)) return destination.startsWith("/") ? destination : `/${destination}`;
	throw new OciError("ERR_OCI_MOUNT", `invalid mount destination ${JSON.stringify(destination)}`);
}

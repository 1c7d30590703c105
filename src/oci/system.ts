/*
 * config.json as the steps by which the agent makes a container's system: its root and mounts, devices, names, kernel
 * parameters, and what of /proc and /sys is hidden.
 */
import { hostname as hostName } from "node:os";
import type { SetupStep } from "../container/setup-steps.ts";
import { type Bundle, type Config, type Device, readBundle } from "./bundle.ts";
import { type Mounted, mountsOf, SHARES, type Share } from "./mounts.ts";
import { joinsOf, sandboxOf } from "./pod.ts";
import { cgroupSettings } from "./resources.ts";
import { type SharedMemory, sharedMemoryOf } from "./shared-memory.ts";
import type { OciContainer } from "./state.ts";

/** What a container needs: directories of the host, and steps. */
export interface System {
	shares: Share[];
	steps: SetupStep[];
}

/** config-linux.md, "Default Devices": in every container, whatever config.json says. */
const DEFAULT_DEVICES = [
	["null", 1, 3],
	["zero", 1, 5],
	["full", 1, 7],
	["random", 1, 8],
	["urandom", 1, 9],
	["tty", 5, 0],
] as const;

const LINKS = [
	["pts/ptmx", "/dev/ptmx"],
	["/proc/self/fd", "/dev/fd"],
	["/proc/self/fd/0", "/dev/stdin"],
	["/proc/self/fd/1", "/dev/stdout"],
	["/proc/self/fd/2", "/dev/stderr"],
] as const;

/** @throws OciError ERR_OCI_MOUNT */
export function systemOf(container: OciContainer, { rootfs, config }: Bundle): System {
	const name = container.agentName;
	const joins = joinsOf(container, config);
	const own = newNamespaces(config).filter((kind) => !joins.kinds.includes(kind));
	const root = `${name}-root`;
	const { shares, before, after }: Mounted = mountsOf(name, config.mounts, memoryFor(container, config));
	const readOnly = config.root?.readonly === true;
	return {
		shares: [{ name: root, path: rootfs, readOnly: false }, ...shares],
		steps: [
			["namespaces", own.join()],
			...joins.steps,
			["cgroup?", [name, ...cgroupSettings(config.linux?.resources)].join("\t")],
			["take", `root\t${SHARES}/${root}`],
			...before,
			["attach", "root\t/run/root\t"],
			["switch", "/run/root"],
			...after,
			...deviceSteps(config),
			...(own.includes("uts") ? nameSteps(config) : []),
			...parameterSteps(config),
			...protectionSteps(config),
			...(readOnly ? [["mount", "\t\t/\tremount,bind,ro"] as const] : []),
		],
	};
}

/** The shared memory of the machine that it is in: what the first container in it has asked for. */
function memoryFor(container: OciContainer, config: Config): SharedMemory | undefined {
	const owner = sandboxOf(container, config);
	if (owner === undefined) return sharedMemoryOf(config.mounts);
	try {
		return sharedMemoryOf(readBundle(container.sibling(owner).read().bundle).config.mounts);
	} catch {
		/* Its bundle has gone: the host's files are shared then. */
		return undefined;
	}
}

/** A mount namespace is always new, and so is one for processes unless the pod has one. The network is the machine's. */
function newNamespaces({ linux }: Config): string[] {
	const kinds = (linux?.namespaces ?? []).map(({ type }) => type);
	/* Without namespaces of its own, a container of runc has the host's; here its machine's. */
	return ["uts", "ipc", "cgroup"].filter((kind) => kind === "cgroup" || kinds.includes(kind));
}

function deviceSteps({ linux, process }: Config): SetupStep[] {
	const own = (linux?.devices ?? []).filter(({ type }) => type === "c" || type === "u");
	return [
		...DEFAULT_DEVICES.map(([name, major, minor]): SetupStep => ["node?", `/dev/${name}\t666\t${major}\t${minor}`]),
		...own.map(node),
		...LINKS.map(([target, path]): SetupStep => ["link?", `${target}\t${path}`]),
		...(process?.terminal === true ? [["link?", "pts/0\t/dev/console"] as const] : []),
	];
}

function node({ path, major, minor, fileMode = 0o666 }: Device): SetupStep {
	return ["node?", [path, (fileMode & 0o7777).toString(8), major, minor].join("\t")];
}

/** A new namespace begins with the names of the one before, which is the host's for a container of runc. */
function nameSteps({ hostname, domainname }: Config): SetupStep[] {
	return [
		["hostname", hostname || hostName()],
		...(domainname === undefined || domainname === "" ? [] : [["domainname", domainname] as const]),
	];
}

function parameterSteps({ linux }: Config): SetupStep[] {
	return Object.entries(linux?.sysctl ?? {}).map(([name, value]) => [
		"sysctl",
		`${name.includes("/") ? name : name.replaceAll(".", "/")}\t${value}`,
	]);
}

function protectionSteps({ linux }: Config): SetupStep[] {
	return [
		...(linux?.maskedPaths ?? []).map((path): SetupStep => ["mask", path]),
		...(linux?.readonlyPaths ?? []).map((path): SetupStep => ["readonly", path]),
	];
}

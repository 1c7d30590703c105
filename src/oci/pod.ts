/*
 * Which containers share a machine. Their callers say so by annotations: the first container of a pod is its sandbox,
 * and the others name it. Or a container is to have a namespace of another one (podman's --network container:NAME), which
 * its machine has.
 */
import type { SetupStep } from "../container/setup-steps.ts";
import type { Config } from "./bundle.ts";
import type { ContainerRecord, OciContainer } from "./state.ts";

/** The annotations of podman (which has those of CRI-O) and of containerd's CRI plugin. */
const KEYS = [
	["io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"],
	["io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"],
] as const;

/** Namespaces that containers of a pod may share. They have the network of their machine. */
const SHARED: ReadonlySet<string> = new Set(["uts", "ipc", "pid"]);

/** The container whose machine this one is in; undefined for its own. */
export function sandboxOf(container: OciContainer, { annotations, linux }: Config): string | undefined {
	for (const [type, id] of KEYS) if (annotations[type] === "container") return annotations[id];
	for (const { path = "" } of linux?.namespaces ?? []) {
		const owner = ownerOf(container, path);
		if (owner !== undefined) return owner.sandbox;
	}
	return undefined;
}

/** The other container whose process on the host a namespace's path names: /proc/NUMBER/ns/KIND. */
function ownerOf(container: OciContainer, path: string): ContainerRecord | undefined {
	const pid = Number(/^\/proc\/(\d+)\/ns\//.exec(path)?.[1] ?? 0);
	if (pid === 0) return undefined;
	return container
		.siblings()
		.find(({ id, process, status }) => id !== container.id && status !== "stopped" && process.pid === pid);
}

/** The pod of a container: what all containers of one machine have in common, the sandbox too. */
export function podOf({ annotations }: Config): string | undefined {
	for (const [, id] of KEYS) if (annotations[id] !== undefined) return annotations[id];
	return undefined;
}

/** Whether it is what containerd's CRI plugin makes first of a pod, and what has the pod's network. */
export function isCriSandbox({ annotations }: Config): boolean {
	return annotations["io.kubernetes.cri.container-type"] === "sandbox";
}

/**
 * The namespaces that a container has in common with others of its pod, as steps of the agent. A path of /proc says whose
 * it is; another one, such as a network namespace, the sandbox's.
 */
export function joinsOf(container: OciContainer, config: Config): { kinds: string[]; steps: SetupStep[] } {
	const sandbox = sandboxOf(container, config);
	if (sandbox === undefined) return { kinds: [], steps: [] };
	const owners = new Map<string, string[]>();
	for (const { type, path = "" } of config.linux?.namespaces ?? []) {
		if (path === "" || !SHARED.has(type)) continue;
		const owner = ownerOf(container, path)?.id ?? sandbox;
		owners.set(owner, [...(owners.get(owner) ?? []), type]);
	}
	return {
		kinds: [...owners.values()].flat(),
		steps: [...owners].map(([id, kinds]) => ["join", `${container.sibling(id).agentName}\t${kinds.join()}`]),
	};
}

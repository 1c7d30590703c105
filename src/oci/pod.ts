/*
 * Which containers share a machine. Their callers say so by annotations: the first container of a pod is its sandbox,
 * and the others name it.
 */
import type { Config } from "./bundle.ts";

/** The annotations of podman (which has those of CRI-O) and of containerd's CRI plugin. */
const KEYS = [
	["io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"],
	["io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"],
] as const;

/** The container whose machine this one is in; undefined for its own. */
export function sandboxOf({ annotations }: Config): string | undefined {
	for (const [type, id] of KEYS) if (annotations[type] === "container") return annotations[id];
	return undefined;
}

/** The pod of a container: what all containers of one machine have in common, the sandbox too. */
export function podOf({ annotations }: Config): string | undefined {
	for (const [, id] of KEYS) if (annotations[id] !== undefined) return annotations[id];
	return undefined;
}

/*
 * Where an image is: Docker's short names (docker.io when the first part is no host) as a registry's host and the
 * repository's path there.
 */
import { formatReference, type Reference } from "../image/reference.ts";

/** A repository in a registry. */
export interface RepositoryLocation {
	/** As in the name and in Docker's configuration: "docker.io", "quay.io", "localhost:5000". */
	readonly registry: string;
	/** Whom to ask: "registry-1.docker.io" for docker.io, otherwise the registry itself. */
	readonly host: string;
	/** "library/busybox" */
	readonly path: string;
}

export const DOCKER_HUB = "docker.io";
const DOCKER_HUB_HOST = "registry-1.docker.io";

/** The host of a registry by its name. */
export function hostOf(registry: string): string {
	return registry === DOCKER_HUB ? DOCKER_HUB_HOST : registry;
}

/** @param repository in the familiar form, as Reference has it */
export function locate(repository: string): RepositoryLocation {
	const slash = repository.indexOf("/");
	const first = repository.slice(0, slash);
	const isHost = slash > 0 && (/[.:A-Z]/.test(first) || first === "localhost");
	if (isHost) return { registry: first, host: hostOf(first), path: repository.slice(slash + 1) };
	const path = slash < 0 ? `library/${repository}` : repository;
	return { registry: DOCKER_HUB, host: DOCKER_HUB_HOST, path };
}

/** "docker.io/library/busybox:latest" for "busybox". */
export function fullName(reference: Reference): string {
	const { registry, path } = locate(reference.repository);
	return formatReference({ ...reference, repository: `${registry}/${path}` });
}

/** True for a registry on this machine, which needs neither TLS nor a proxy. */
export function isLoopback(hostname: string): boolean {
	return /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/.test(hostname.replace(/:\d+$/, ""));
}

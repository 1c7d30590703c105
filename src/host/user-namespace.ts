/*
 * Whether this process has numbers of users that are not the host's, as rootless podman gives them to its runtimes.
 */
import { readFileSync } from "node:fs";

/** The first namespace has all numbers, each as itself (user_namespaces(7)). */
export function isInUserNamespace(): boolean {
	try {
		return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
	} catch {
		return false;
	}
}

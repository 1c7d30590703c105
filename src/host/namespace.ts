/*
 * Network namespaces (network_namespaces(7)). A namespace is a property of a thread: what this one opens and starts from
 * then on is in the new one, and files are as before.
 */
import { closeSync, openSync } from "node:fs";
import { errnoNameOf, joinNetworkNamespace } from "./libc.ts";

/** This thread joins the network namespace that the file names. @throws Error with what open(2) or setns(2) says */
export function enterNetworkNamespace(path: string): void {
	const fd = openSync(path, "r");
	try {
		const result = joinNetworkNamespace(fd);
		if (result < 0) throw Object.assign(new Error(errnoNameOf(-result)), { code: errnoNameOf(-result) });
	} finally {
		closeSync(fd);
	}
}

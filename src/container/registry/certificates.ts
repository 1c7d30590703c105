/*
 * The CA certificates to trust: Node's list, this system's (where companies put their CA), and Docker's for one
 * registry in /etc/docker/certs.d.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { rootCertificates } from "node:tls";

const SYSTEM = "/etc/ssl/certs/ca-certificates.crt";
const DOCKER = "/etc/docker/certs.d";

let common: readonly string[] | undefined;

/** CA certificates in PEM for a host ("quay.io", "registry.example:5000"). */
export function certificatesFor(host: string, directory = DOCKER): string[] {
	common ??= [...rootCertificates, read(process.env.SSL_CERT_FILE || SYSTEM)].filter((text) => text !== "");
	const names = list(join(directory, host)).filter((name) => name.endsWith(".crt"));
	return [...common, ...names.map((name) => read(join(directory, host, name)))];
}

function list(directory: string): string[] {
	try {
		return readdirSync(directory);
	} catch {
		return [];
	}
}

function read(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return "";
	}
}

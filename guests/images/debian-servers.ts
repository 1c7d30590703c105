/*
 * The image `debian-servers`: a minimal Debian with the servers that people run in containers, and their load
 * generators. PostgreSQL's package has made its first database on the way, in /var/lib/postgresql/15/main.
 */
import { buildDebian } from "./debian.ts";

const PACKAGES = [
	"apache2-utils",
	"curl",
	"docker-registry",
	"nginx-light",
	"nodejs",
	"postgresql-15",
	"python3-minimal",
	"redis-server",
	"redis-tools",
];

/** What is large and no test needs: PostgreSQL's compiler of queries, character sets, compressed lists of packages. */
const EXCLUDED = [
	"/usr/lib/x86_64-linux-gnu/libLLVM*",
	"/usr/lib/x86_64-linux-gnu/libz3*",
	"/usr/lib/postgresql/*/lib/bitcode/*",
	"/usr/share/i18n/*",
];
const REMOVED = [
	"usr/share/perl",
	"usr/lib/x86_64-linux-gnu/perl",
	"usr/lib/x86_64-linux-gnu/libperl*",
	"usr/bin/perl5*",
];

/** Writes an OCI layout to `directory`. `say` hears mmdebstrap's own words. */
export async function buildDebianServers(
	directory: string,
	scratch: string,
	say?: (line: string) => void,
): Promise<void> {
	await buildDebian(directory, scratch, { packages: PACKAGES, exclude: EXCLUDED, remove: REMOVED, say });
}

/*
 * The image `debian-tools`: a minimal Debian with what the tests run in guests: Python, nginx, redis, fio, network and
 * file system tools.
 */
import { buildDebian } from "./debian.ts";

const PACKAGES = [
	"ca-certificates",
	"curl",
	"e2fsprogs",
	"fio",
	"iproute2",
	"iputils-ping",
	"netcat-openbsd",
	"nginx-light",
	"procps",
	"python3",
	"redis-server",
];

/** Writes an OCI layout to `directory`. `say` hears mmdebstrap's own words. */
export async function buildDebianTools(
	directory: string,
	scratch: string,
	say?: (line: string) => void,
): Promise<void> {
	await buildDebian(directory, scratch, { packages: PACKAGES, say });
}

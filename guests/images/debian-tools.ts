/*
 * The image `debian-tools`: a minimal Debian with what the tests run in guests: Python, nginx, redis, fio, network and
 * file system tools. Made by mmdebstrap from the host's own Debian mirror, as root or with user namespaces.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DEFAULT_SUITE } from "../../src/debian/packages.ts";
import { formatSources, readSources, sourceFor } from "../../src/debian/sources.ts";
import { run } from "../../src/host/command.ts";
import { writeLayout } from "./layout.ts";

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
	const sources = join(scratch, "debian.sources");
	await writeFile(sources, formatSources([sourceFor(DEFAULT_SUITE, readSources())]));
	const tar = join(scratch, "root.tar");
	/*
	 * Files newer than this are set back to it, so that the same packages give the same image all day. Not further
	 * back: that would touch the packages' own .py files, and Python would compile them again at every start.
	 */
	const today = Math.floor(Date.now() / 86_400_000) * 86_400;
	const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? today);
	await run(
		"mmdebstrap",
		[
			"--variant=minbase",
			"--format=tar",
			`--include=${PACKAGES.join(",")}`,
			"--aptopt=APT::Install-Recommends false",
			"--dpkgopt=path-exclude=/usr/share/doc/*",
			"--dpkgopt=path-exclude=/usr/share/man/*",
			"--dpkgopt=path-exclude=/usr/share/locale/*",
			'--customize-hook=rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
			DEFAULT_SUITE,
			tar,
			sources,
		],
		{
			env: { SOURCE_DATE_EPOCH: String(epoch), LC_ALL: "C.UTF-8", TMPDIR: scratch },
			...(say === undefined ? {} : { onLine: say }),
		},
	);
	const config = {
		Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
		Cmd: ["bash"],
	};
	await writeLayout(directory, tar, config, epoch);
}

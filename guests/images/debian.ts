/*
 * An image of Debian packages: made by mmdebstrap from the host's own Debian mirror, as root or with user namespaces.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DEFAULT_SUITE } from "../../src/debian/packages.ts";
import { formatSources, readSources, sourceFor } from "../../src/debian/sources.ts";
import { run } from "../../src/host/command.ts";
import { writeLayout } from "./layout.ts";

export interface DebianImage {
	packages: readonly string[];
	/** Paths that dpkg does not unpack, with wildcards. */
	exclude?: readonly string[];
	/** Paths that are removed when all packages are set up, with wildcards and without the first slash. */
	remove?: readonly string[];
	/** Hears mmdebstrap's own words. */
	say?: ((line: string) => void) | undefined;
}

/** Writes an OCI layout of a minimal Debian with `packages` to `directory`. */
export async function buildDebian(
	directory: string,
	scratch: string,
	{ packages, exclude = [], remove = [], say }: DebianImage,
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
	const excluded = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", ...exclude];
	const removed = ["etc/hostname", "etc/resolv.conf", ...remove];
	await run(
		"mmdebstrap",
		[
			"--variant=minbase",
			"--format=tar",
			`--include=${packages.join(",")}`,
			"--aptopt=APT::Install-Recommends false",
			...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
			`--customize-hook=cd "$1" && rm -rf ${removed.join(" ")}`,
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

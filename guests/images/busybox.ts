/*
 * The image `busybox`: Debian's busybox-static with a link for each of its commands, and the few files that programs
 * look for. Made in seconds without root.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fetchPackage, unpackPackage } from "../../src/debian/packages.ts";
import { run } from "../../src/host/command.ts";
import { type SmallFile, smallTar, writeSmallLayout } from "./layout.ts";

const PASSWD = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`;
const GROUP = `root:x:0:
daemon:x:1:
tty:x:5:
disk:x:6:
wheel:x:10:root
www-data:x:33:
users:x:100:user
user:x:1000:
nogroup:x:65534:
`;
const DIRECTORIES = [
	"bin",
	"dev",
	"etc",
	"home",
	"mnt",
	"proc",
	"run",
	"sbin",
	"sys",
	"usr",
	"usr/bin",
	"usr/sbin",
	"var",
];
const MORE = ["var/log", "var/www"];

/** Writes an OCI layout to `directory`, using `scratch` for the unpacked package. */
export async function buildBusybox(directory: string, scratch: string): Promise<void> {
	const root = join(scratch, "busybox");
	await unpackPackage(await fetchPackage("busybox-static"), root);
	const busybox = join(root, "bin/busybox");
	const mtime = Math.floor((await stat(busybox)).mtimeMs / 1000);
	const { stdout } = await run(busybox, ["--list-full"]);
	const files: SmallFile[] = [
		...[...DIRECTORIES, ...MORE].map((path) => ({ path })),
		{ path: "root", mode: 0o700 },
		{ path: "tmp", mode: 0o1777 },
		{ path: "var/tmp", mode: 0o1777 },
		{ path: "home/user" },
		{ path: "bin/busybox", mode: 0o755, data: await readFile(busybox) },
		{ path: "etc/passwd", data: PASSWD },
		{ path: "etc/group", data: GROUP },
		{ path: "etc/shells", data: "/bin/sh\n" },
	];
	const taken = new Set(files.map((file) => file.path));
	for (const path of stdout.split("\n")) {
		/* "linuxrc" at the root and busybox itself are no commands. */
		if (!/^(usr\/)?s?bin\/[^/]+$/.test(path) || taken.has(path)) continue;
		files.push({ path, target: "/bin/busybox" });
		taken.add(path);
	}
	const config = { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Cmd: ["sh"] };
	await writeSmallLayout(directory, smallTar(files, mtime), config, mtime);
}

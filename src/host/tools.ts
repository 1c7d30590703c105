/*
 * Finds the host's tools (apt-get, make, mkfs, ip ...), and names the Debian package of a missing one.
 */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { HostError } from "../base/errors.ts";

/** The Debian package of a tool, if it has another name. */
const PACKAGES: Record<string, string> = {
	"apt-get": "apt",
	"apt-cache": "apt",
	"apt-helper": "apt",
	"dpkg-deb": "dpkg",
	"clang-format": "clang-format",
	debugfs: "e2fsprogs",
	depmod: "kmod",
	e2fsck: "e2fsprogs",
	flex: "flex",
	"fsck.erofs": "erofs-utils",
	fuser: "psmisc",
	gcc: "gcc libc6-dev",
	ip: "iproute2",
	lz4: "lz4",
	losetup: "mount",
	make: "make",
	"mkfs.erofs": "erofs-utils",
	"mkfs.ext4": "e2fsprogs",
	mke2fs: "e2fsprogs",
	mksquashfs: "squashfs-tools",
	modprobe: "kmod",
	"musl-gcc": "musl-tools",
	patch: "patch",
	ping: "iputils-ping",
	"qemu-system-x86_64": "qemu-system-x86",
	resize2fs: "e2fsprogs",
	sqfstar: "squashfs-tools",
	strip: "binutils",
	objcopy: "binutils",
	readelf: "binutils",
	tar2sqfs: "squashfs-tools-ng",
	truncate: "coreutils",
	tune2fs: "e2fsprogs",
	unsquashfs: "squashfs-tools",
	xz: "xz-utils",
	busybox: "busybox-static",
};

/** The Debian package (or packages) to install for `tool`. */
export function packageOf(tool: string): string {
	return PACKAGES[tool] ?? tool;
}

/** The PATH for tools. It has the sbin directories, which a user's PATH often lacks. */
export function searchPath(env: NodeJS.ProcessEnv): string {
	const path = (env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
	for (const directory of ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]) {
		if (!path.includes(directory)) path.push(directory);
	}
	return path.join(delimiter);
}

/** The full path of a tool, or undefined when this host does not have it. */
export function findTool(tool: string): string | undefined {
	const candidates = tool.includes("/")
		? [tool]
		: searchPath(process.env)
				.split(delimiter)
				.map((directory) => join(directory, tool));
	return candidates.find((path) => {
		try {
			accessSync(path, constants.X_OK);
			return statSync(path).isFile();
		} catch {
			return false;
		}
	});
}

/** The error for a tool that is not here. */
export function toolMissing(tool: string, cause?: unknown): HostError {
	return new HostError("ERR_TOOL_MISSING", `Cannot run ${tool}: it is not installed`, {
		hint: `Install it: apt-get install ${packageOf(tool)}`,
		cause,
	});
}

/*
 * The Debian packages that building, running and testing need. As root the missing ones are installed, otherwise the
 * one command that does it is printed.
 */
import { accessSync } from "node:fs";
import { execute, must, StepError, say } from "./steps.mjs";

/** Debian packages by what they are for. */
export const PACKAGES = {
	"native helper": ["gcc", "g++", "libc6-dev", "make", "python3"],
	"guest agent": ["musl-tools"],
	lab: ["qemu-system-x86", "seabios", "busybox-static", "kmod"],
	"images and kernels": ["squashfs-tools", "squashfs-tools-ng", "erofs-utils", "e2fsprogs", "xz-utils", "zstd", "lz4"],
	network: ["passt", "iproute2"],
	"kernel build": ["flex", "bison", "bc", "libelf-dev"],
	tests: [
		"mmdebstrap",
		"cpio",
		"clang-format",
		"acpica-tools",
		"procps",
		"iputils-ping",
		"socat",
		"fio",
		"qemu-utils",
		"zsh",
		"fish",
		"groff",
		"openssl",
		"gdb",
		"docker-registry",
		"skopeo",
		"podman",
		"conmon",
		"runc",
		"catatonit",
		"slirp4netns",
		"uidmap",
		"containerd",
		"netavark",
		"aardvark-dns",
		"iptables",
		"containernetworking-plugins",
		"tshark",
		"systemd",
		"dbus",
		"chromium",
		"fonts-dejavu-core",
	],
};

/** Those of `names` that dpkg does not have installed; all when there is no dpkg. */
export async function missingPackages(names) {
	// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format language
	const query = ["-W", "-f", "${db:Status-Status} ${Package}\\n", ...names];
	const { output } = await execute("dpkg-query", query, { quiet: true }).catch(() => ({ output: "" }));
	const lines = output.split("\n");
	return names.filter((name) => !lines.includes(`installed ${name}`));
}

/** Installs what is missing. @throws StepError that names the command when we may not */
export async function installPackages(script, groups = Object.keys(PACKAGES)) {
	const missing = await missingPackages(groups.flatMap((group) => PACKAGES[group]));
	if (missing.length === 0) return undefined;
	try {
		accessSync("/usr/bin/apt-get");
	} catch {
		throw new StepError(`These tools are needed, here named as Debian's packages: ${missing.join(" ")}`);
	}
	const command = `apt-get install --no-install-recommends ${missing.join(" ")}`;
	if (process.getuid() !== 0) throw new StepError(`Debian packages are missing. Run:\n\n  sudo ${command}\n`);
	say(script, `installing Debian packages: ${missing.join(" ")}`);
	const options = { quiet: true, env: { DEBIAN_FRONTEND: "noninteractive" } };
	const wait = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"];
	await must("apt-get", ["-q", ...wait, "update"], options);
	await must("apt-get", ["-q", "-y", ...wait, "install", "--no-install-recommends", ...missing], options);
	return `installed ${missing.length} Debian packages`;
}

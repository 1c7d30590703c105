/*
 * --device: a block device of the host or a file, which the container has as a disk. Docker's other devices are the host's
 * drivers', and a machine has none of those.
 */
import { type Stats, statSync } from "node:fs";
import { resolve } from "node:path";
import { explain, UsageError } from "../../base/errors.ts";
import type { ContainerConfig } from "../../container/life/config.ts";
import { needsLab } from "../../lab/host.ts";

export type DeviceRequest = NonNullable<ContainerConfig["devices"]>[number];

/**
 * Reads a `--device`: "/dev/sdb", "/dev/sdb:/dev/xvda", "./disk.img:/dev/data:r", "/dev/sdb:rwm".
 *
 * @throws UsageError ERR_RUN_DEVICE, also for what can be no disk
 */
export function readDeviceFlag(text: string): DeviceRequest {
	const [source = "", ...rest] = text.split(":");
	const isPermissions = (word: string | undefined) => word !== undefined && /^(?=.)r?w?m?$/.test(word);
	const permissions = isPermissions(rest.at(-1)) ? rest.pop()! : "rwm";
	const target = rest.length === 0 ? resolve(source) : rest[0]!;
	if (source === "" || rest.length > 1 || !/^\/[^\t\n\0]*[^\t\n\0/]$/.test(target)) {
		throw new UsageError("ERR_RUN_DEVICE", `Cannot read device "${text}"`, {
			hint: "Write HOST[:CONTAINER[:rwm]], as in /dev/sdb:/dev/xvda:r",
		});
	}
	checkDisk(source);
	return { source: resolve(source), target, readOnly: !permissions.includes("w") };
}

function checkDisk(path: string): void {
	let found: Stats;
	try {
		found = statSync(path);
	} catch (cause) {
		throw unusable(path, explain(cause), undefined, cause);
	}
	if (found.isDirectory()) throw unusable(path, "it is a directory", "Share it with -v");
	if (!found.isBlockDevice() && !found.isFile()) {
		throw unusable(path, "it is neither a block device nor a file", "Use a disk; a machine has drivers of its own");
	}
	if (found.isBlockDevice() && needsLab()) throw unusable(path, "the lab has no block devices of this machine");
}

function unusable(path: string, found: string, hint?: string, cause?: unknown): UsageError {
	return new UsageError("ERR_RUN_DEVICE", `Cannot give the container device ${path}: ${found}`, { hint, cause });
}

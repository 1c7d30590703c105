/*
 * Block devices and files of the host as disks of a container, as `docker run --device` has them: a virtio-blk device each,
 * and a node for it in the container, with the mode and the owner that the host's file has.
 */
import { statSync } from "node:fs";
import type { FileDiskConfig } from "../machine/devices/disk.ts";
import type { SetupStep } from "./setup-steps.ts";

/** A disk of the host's in a container. */
export interface ContainerDevice {
	/** Path of a block device or a file on the host. */
	source: string;
	/** Absolute path of its node in the container. */
	target: string;
	/** The container cannot write to it; false when missing. */
	readOnly?: boolean | undefined;
}

const MISSING = { mode: 0, uid: 0, gid: 0 };

/** @param owner tells the disks of one container from another's of the same machine */
const serialOf = (index: number, owner = "") => (owner === "" ? `device${index}` : `d${index}-${owner}`);

/** The disks, in the order of the devices. */
export function deviceDisks(devices: readonly ContainerDevice[], owner?: string): (FileDiskConfig & { id: string })[] {
	return devices.map(({ source, readOnly = false }, i) => ({
		path: source,
		format: "raw",
		readOnly,
		id: serialOf(i, owner),
	}));
}

/** The steps that make the nodes. Who opens the disks tells of one that is not there any more. */
export function diskSteps(devices: readonly ContainerDevice[], owner?: string): SetupStep[] {
	return devices.map(({ source, target }, i) => {
		const { mode, uid, gid } = statSync(source, { throwIfNoEntry: false }) ?? MISSING;
		return ["disk", [target, (mode & 0o777).toString(8), `${uid}:${gid}`, serialOf(i, owner)].join("\t")];
	});
}

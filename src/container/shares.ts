/*
 * Directories and files of the host in a container, as `docker run -v` has them: a virtio-fs device each, and the steps
 * that mount it. A file is shared alone, in a directory of its own (backends/host-directory).
 */
import { realpathSync, statSync } from "node:fs";
import { basename } from "node:path";
import { UsageError } from "../base/errors.ts";
import type { DirectoryFsConfig } from "../machine/devices/fs.ts";
import type { SetupStep } from "./setup-steps.ts";

/** A directory or file of the host in a container. */
export interface ContainerShare {
	/** Path on the host. It must be there. */
	source: string;
	/** Absolute path in the container; made if it is not there. */
	target: string;
	/** The container cannot change anything in it; false when missing. */
	readOnly?: boolean | undefined;
	/** An empty directory, which first gets what the root file system has at the target; false when missing. */
	fill?: boolean | undefined;
}

/** Where directories of single files, and those that are filled first, are mounted, until all of it is hidden. */
const FILE_SHARES = "/dev/.tsvmm";

/** @param owner tells the shares of one container from another's of the same machine */
const tagOf = (index: number, owner = "") => `share${index}${owner === "" ? "" : `-${owner}`}`;

/** The devices, in the order of the shares. */
export function fsConfigs(shares: readonly ContainerShare[], owner?: string): DirectoryFsConfig[] {
	return shares.map(({ source, readOnly }, i) => {
		const tag = tagOf(i, owner);
		return { tag, id: tag, path: source, readOnly };
	});
}

/**
 * The steps that mount the shares. A directory is mounted on its target. The directory of a single file is mounted
 * elsewhere and hidden, and the target is the file in it.
 *
 * @throws UsageError ERR_RUN_SHARE for a target that is no absolute path
 */
export function shareSteps(shares: readonly ContainerShare[], owner?: string): SetupStep[] {
	const steps = shares.flatMap((share, i) => stepsOf(share, tagOf(i, owner)));
	return steps.some(([name]) => name === "file" || name === "fill") ? [...steps, ["mask", FILE_SHARES]] : steps;
}

function stepsOf({ source, target, readOnly = false, fill = false }: ContainerShare, tag: string): SetupStep[] {
	if (!target.startsWith("/") || /[\t\n\0]/.test(target) || target === "/") {
		throw new UsageError(
			"ERR_RUN_SHARE",
			`Cannot mount ${source} at ${JSON.stringify(target)}: that is no path for it`,
			{
				hint: "Give an absolute path in the container, other than /",
			},
		);
	}
	const options = readOnly ? "ro" : "rw";
	const directory = `${FILE_SHARES}/${tag}`;
	if (statSync(source, { throwIfNoEntry: false })?.isFile() !== true) {
		if (!fill) return [mount("virtiofs", tag, target, options)];
		const filled = mount("virtiofs", tag, directory, options);
		return [filled, ["fill", `${target}\t${directory}`], mount("", directory, target, "bind")];
	}
	return [
		mount("virtiofs", tag, directory, options),
		["file", `${target}\t644\t`],
		mount("", `${directory}/${basename(realpathSync(source))}`, target, "bind"),
	];
}

function mount(type: string, source: string, target: string, options: string): SetupStep {
	return ["mount", [type, source, target, options].join("\t")];
}

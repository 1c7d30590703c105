/*
 * `--device FILE[,id=NAME][,watch=off][,KEY=VALUE...]`: devices of the user's own, from files (docs/device-experiments.md).
 */
import { homedir } from "node:os";
import { dirname } from "node:path";
import { UsageError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { PackageModules } from "../host/user-module.ts";
import { fileShare, isWithin, type Share } from "../lab/shares.ts";
import type { Machine } from "../machine/machine.ts";
import type { DeviceFileConfig } from "../workbench/device-file.ts";
import type { LiveDevices, Report } from "../workbench/live-devices.ts";
import { keyValue, splitFields } from "./options.ts";

/** "reverser.ts", "reverser.ts,id=rev,watch=off,colour=red". @throws UsageError ERR_OPTION_DEVICE */
export function parseDeviceFile(text: string): DeviceFileConfig {
	const [path, ...fields] = splitFields(text);
	const refuse = (what: string) =>
		new UsageError("ERR_OPTION_DEVICE", `Cannot read device "${text}": ${what}`, {
			hint: "Write FILE, then ,id=NAME or ,watch=off if wanted; all other KEY=VALUE are for the device",
		});
	if (path === undefined || path === "") throw refuse("it has no path");
	let [id, watched]: [string | undefined, boolean] = [undefined, true];
	const options: Record<string, string> = {};
	for (const field of fields) {
		const [key, value] = keyValue(field);
		if (key === "" || value === undefined) throw refuse(`"${field}" is no KEY=VALUE`);
		if (key === "id") id = value;
		else if (key !== "watch") options[key] = value;
		else if (value === "on" || value === "off") watched = value === "on";
		else throw refuse(`watch is on or off, and not "${value}"`);
	}
	return { path, id, watched, options };
}

/** Loads the devices of the command line, undefined when there are none. The caller closes them. @throws UsageError */
export async function openDeviceFiles(
	{ device, quiet }: { device: readonly DeviceFileConfig[]; quiet: boolean },
	modules: PackageModules,
): Promise<LiveDevices | undefined> {
	if (device.length === 0) return undefined;
	const { LiveDevices } = await import("../workbench/live-devices.ts");
	return await LiveDevices.load(device, modules, onStderr(quiet));
}

/** A machine whose devices follow their files. */
export async function followed(machine: Promise<Machine>, live: LiveDevices | undefined): Promise<Machine> {
	const made = await machine;
	live?.follow(made);
	return made;
}

/** What the lab needs of the files: their directories, because an editor may put a new file in the place of one. */
export function deviceShares(live: LiveDevices | undefined): Share[] {
	return (live?.files ?? []).map((file) => {
		const directory = dirname(file);
		return fileShare(isWithin(homedir(), directory) ? file : directory, "ro");
	});
}

function onStderr(quiet: boolean): Report {
	const write = (text: string) => void process.stderr.write(`tsvmm: ${printable(text)}\n`);
	return { error: write, note: quiet ? () => undefined : write };
}

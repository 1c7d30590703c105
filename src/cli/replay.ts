/*
 * `tsvmm replay`: plays the recording of a guest against a device in a file, and says in what it behaves differently.
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { ObservedDevice } from "../base/observer.ts";
import type { PackageModules } from "../host/user-module.ts";
import { DeviceFile } from "../workbench/device-file.ts";
import { readRecording } from "../workbench/recording.ts";
import { replay } from "../workbench/replay.ts";
import { parseDeviceFile } from "./device-files.ts";

interface ReplayFlags {
	device?: string;
	as?: string;
}

/** The command for main.ts. @param modules what the user's devices may import */
export function replayCommand(modules: PackageModules = {}): Command {
	return new Command("replay")
		.description("play what a guest did with a device against a device in a file, without a guest")
		.argument("<recording>", "the file of boot --record")
		.option("--device <file[,...]>", "the device (required), as of boot")
		.option("--as <name>", "the recorded device; the one of the same type when missing")
		.action(async (path: string, flags: ReplayFlags) => {
			process.exitCode = await replayFile(path, flags, modules);
		});
}

/** Plays a recording, and prints what differs. @returns the exit status */
export async function replayFile(path: string, { device, as }: ReplayFlags, modules: PackageModules): Promise<number> {
	if (device === undefined) {
		throw new UsageError("ERR_OPTION_DEVICE", "Cannot replay without a device: --device FILE is missing");
	}
	const recording = readRecording(path);
	const made = await new DeviceFile(parseDeviceFile(device), modules).load();
	const recorded = choose(recording.devices, as, made.deviceId);
	const start = performance.now();
	const { events, requests, differences } = await replay(recording, recorded.name, made);
	const took = Math.round(performance.now() - start);
	for (const difference of differences) process.stdout.write(`${printable(difference)}\n`);
	const found = differences.length === 0 ? "no differences" : `${differences.length} differences`;
	process.stdout.write(`${recorded.id}: ${events} events, ${requests} requests, ${found}, ${took} ms\n`);
	return differences.length === 0 ? 0 : 1;
}

/** @throws UsageError ERR_RECORDING when there is none, or not only one */
function choose(devices: readonly ObservedDevice[], as: string | undefined, deviceId: number): ObservedDevice {
	const isNamed = ({ id, name }: ObservedDevice) => [id, name, name.replace(/^virtio-/, "")].includes(as ?? "");
	const found = devices.filter((device) => (as === undefined ? device.deviceId === deviceId : isNamed(device)));
	if (found.length === 1) return found[0]!;
	const what = as === undefined ? `${found.length} of its devices are of type ${deviceId}` : `it has no device "${as}"`;
	const known = devices.map(({ id, deviceId: type }) => `${id} (type ${type})`).join(", ") || "none";
	throw new UsageError("ERR_RECORDING", `Cannot replay the recording: ${what}`, {
		hint: `Name one by --as: the recording has ${known}`,
	});
}

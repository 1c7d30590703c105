/*
 * `tsvmm boot`: flags -> MachineConfig -> Machine -> exit status. The first stop of docs/tour.md.
 */
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { fanOut } from "../base/observer.ts";
import type { PackageModules } from "../host/user-module.ts";
import { fileShare, outputShare } from "../lab/shares.ts";
import { completeConfig, type MachineConfig } from "../machine/config.ts";
import { Machine } from "../machine/machine.ts";
import type { Recorder } from "../workbench/recording.ts";
import { deviceShares, followed, openDeviceFiles } from "./device-files.ts";
import { runInForeground } from "./foreground-machine.ts";
import { addHostFlags, type HostFlags, hostConfig, hostShares } from "./host-flags.ts";
import { parseCpus, parseMemory } from "./options.ts";

interface BootFlags extends HostFlags {
	kernel?: string;
	initrd?: string;
	cmdline?: string;
	cpus: string;
	memory: string;
	record?: string;
}

/** The command for main.ts. @param modules what the user's devices may import */
export function bootCommand(modules: PackageModules = {}): Command {
	const command = new Command("boot")
		.description("boot a Linux kernel (ELF vmlinux or bzImage) in a microVM; Ctrl-A x ends it")
		.option("--kernel <file>", "kernel image (required)")
		.option("--initrd <file>", "initial RAM disk")
		.option("--cmdline <text>", "kernel parameters, after the machine's own")
		.option("--cpus <n>", "vCPUs, 1 to 32", "1")
		.option("--memory <size>", "RAM, as in 512M or 2G", "512M")
		.option("--record <file>", "write what the guest does with its virtio devices, for `tsvmm replay`");
	return addHostFlags(command).action(async (flags: BootFlags) => {
		process.exitCode = await boot(flags, modules);
	});
}

async function boot(flags: BootFlags, modules: PackageModules): Promise<number> {
	const booted = bootConfig(flags);
	const live = await openDeviceFiles(flags, modules);
	let recorder: Recorder | undefined;
	try {
		const config = { ...booted, devices: live?.devices ?? [] };
		/* What is wrong with it is said at once, before a lab starts. */
		completeConfig(config);
		const { kernel, initrd } = config;
		const shares = async () => {
			const images = [kernel, ...(initrd === undefined ? [] : [initrd])].map((path) => fileShare(path, "ro"));
			const recording = flags.record === undefined ? [] : [outputShare(flags.record)];
			return [...images, ...hostShares(config), ...deviceShares(live), ...recording];
		};
		const make = async (complete: MachineConfig) => {
			recorder = flags.record === undefined ? undefined : await recorderTo(flags.record);
			const observers = [complete.observer, recorder?.observer].filter((one) => one !== undefined);
			return await followed(Machine.create({ ...complete, observer: fanOut(observers) }), live);
		};
		return await runInForeground({ config, make, flags, shares });
	} finally {
		recorder?.close();
		await live?.close();
	}
}

/** Loaded only when it is wanted. */
async function recorderTo(path: string): Promise<Recorder> {
	const { Recorder } = await import("../workbench/recording.ts");
	return new Recorder(path);
}

/** A kernel need not print stamps by itself. */
function cmdlineOf({ cmdline, timings }: BootFlags): Pick<MachineConfig, "cmdline"> {
	const words = [...(timings ? ["printk.time=1"] : []), ...(cmdline === undefined ? [] : [cmdline])];
	return words.length === 0 ? {} : { cmdline: words.join(" ") };
}

/** Turns the flags into a configuration. @throws UsageError */
function bootConfig(flags: BootFlags): MachineConfig {
	if (flags.kernel === undefined || flags.kernel === "") {
		throw new UsageError("ERR_OPTION_KERNEL", "Cannot boot without a kernel: --kernel FILE is missing", {
			hint: "Get one: tsvmm kernel fetch; see where it is: tsvmm kernel ls",
		});
	}
	return {
		kernel: flags.kernel,
		...(flags.initrd === undefined ? {} : { initrd: flags.initrd }),
		...cmdlineOf(flags),
		cpus: parseCpus(flags.cpus),
		memoryMiB: parseMemory(flags.memory),
		...hostConfig(flags),
	};
}

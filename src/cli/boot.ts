/*
 * `tsvmm boot`: flags -> MachineConfig -> Machine -> exit status. The first stop of docs/tour.md.
 */
import { Command, Option } from "commander";
import { StdioConsole } from "../backends/console.ts";
import { UsageError } from "../base/errors.ts";
import { rawTerminal, restoreTerminal } from "../host/terminal.ts";
import { needsLab, reexecInLab } from "../lab/host.ts";
import { fileShare, outputShare, type Share } from "../lab/shares.ts";
import { completeConfig, type MachineConfig } from "../machine/config.ts";
import type { DiskConfig } from "../machine/devices/disk.ts";
import type { DirectoryFsConfig } from "../machine/devices/fs.ts";
import type { NetConfig } from "../machine/devices/net.ts";
import { Machine } from "../machine/machine.ts";
import { describeShutdown, type ShutdownReason, shutdownError } from "../machine/shutdown-reason.ts";
import { EscapeKey } from "./escape-key.ts";
import {
	parseConsole,
	parseCpus,
	parseDisk,
	parseFs,
	parseMemory,
	parseNet,
	parseTrace,
	parseVsock,
} from "./options.ts";
import { outputFailed, watchOutput, watchStderr } from "./output.ts";
import { shutdownStatus } from "./shutdown-status.ts";

interface BootFlags {
	kernel?: string;
	initrd?: string;
	cmdline?: string;
	cpus: string;
	memory: string;
	disk: DiskConfig[];
	net: NetConfig[];
	fs: DirectoryFsConfig[];
	vsock?: string;
	rng: boolean;
	virtioConsole: boolean;
	console: string;
	trace?: string;
	quiet: boolean;
	json: boolean;
}

/** The command for main.ts. */
export function bootCommand(): Command {
	return new Command("boot")
		.description("boot a Linux kernel (ELF vmlinux or bzImage) in a microVM; Ctrl-A x ends it")
		.option("--kernel <file>", "kernel image (required)")
		.option("--initrd <file>", "initial RAM disk")
		.option("--cmdline <text>", "kernel parameters, after the machine's own")
		.option("--cpus <n>", "vCPUs, 1 to 32", "1")
		.option("--memory <size>", "RAM, as in 512M or 2G", "512M")
		.addOption(
			new Option("--disk <file[,ro][,id=X]>", "raw disk image or block device; may be repeated")
				.argParser(append(parseDisk))
				.default([], "none"),
		)
		.addOption(
			new Option("--net <user[,port=HOST:GUEST]|tap=NAME|bridge=NAME>", "network interface; may be repeated")
				.argParser(append(parseNet))
				.default([], "none"),
		)
		.addOption(
			new Option("--fs <tag=NAME,path=DIR[,ro][,cache=X]>", "directory to mount by virtio-fs; may be repeated")
				.argParser(append(parseFs))
				.default([], "none"),
		)
		.option("--vsock <cid=N,uds=PATH>", "vsock device with its unix socket")
		.option("--rng", "entropy device", false)
		.option("--virtio-console", "a second console, hvc0, on stdio", false)
		.option("--console <stdio|file=PATH|none>", "where the serial port goes", "stdio")
		.option("--trace <pio,mmio,exits,queues,interrupts|all>", "print what guest and devices do, on stderr")
		.option("--json", "print how the machine ended as JSON on stderr", false)
		.option("-q, --quiet", "no notes on stderr", false)
		.action(async (flags: BootFlags) => {
			process.exitCode = await boot(flags);
		});
}

async function boot(flags: BootFlags): Promise<number> {
	const config = bootConfig(flags);
	/* What is wrong with it is said at once, before a lab starts. */
	completeConfig(config);
	if (needsLab()) {
		watchOutput();
		const ports = flags.net.flatMap((net) => (net.kind === "user" ? (net.ports ?? []) : []));
		return reexecInLab(process.argv.slice(2), { quiet: flags.quiet, ports, shares: namedFiles(config) });
	}
	watchStderr();
	const end = await runMachine(config);
	const failure = shutdownError(end);
	if (flags.json) process.stderr.write(`${JSON.stringify(end)}\n`);
	else if (failure !== undefined) process.stderr.write(`tsvmm: ${failure.message} [${failure.code}]\n`);
	else if (!flags.quiet) process.stderr.write(`tsvmm: ${describeShutdown(end)}\n`);
	return shutdownStatus(end);
}

/** The files that the machine opens. The lab needs them, too. */
function namedFiles({ kernel, initrd, disks = [], fs = [], console }: MachineConfig): Share[] {
	const shares: Share[] = [kernel, ...(initrd === undefined ? [] : [initrd])].map((path) => fileShare(path, "ro"));
	for (const disk of disks) if ("path" in disk) shares.push(fileShare(disk.path, disk.readOnly === true ? "ro" : "rw"));
	for (const one of fs) if ("path" in one) shares.push(fileShare(one.path, one.readOnly === true ? "ro" : "rw"));
	if (console?.kind === "file") shares.push(outputShare(console.path));
	return shares;
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
		...(flags.cmdline === undefined ? {} : { cmdline: flags.cmdline }),
		cpus: parseCpus(flags.cpus),
		memoryMiB: parseMemory(flags.memory),
		disks: flags.disk,
		nets: flags.net,
		fs: flags.fs,
		...(flags.vsock === undefined ? {} : { vsock: parseVsock(flags.vsock) }),
		rng: flags.rng,
		virtioConsole: flags.virtioConsole,
		console: parseConsole(flags.console),
		...(flags.trace === undefined ? {} : { trace: parseTrace(flags.trace) }),
	};
}

/** Runs a machine to its end. SIGINT, SIGTERM and SIGHUP stop it. The terminal is always restored. */
async function runMachine(config: MachineConfig): Promise<ShutdownReason> {
	let machine: Machine | undefined;
	const stop = () => void machine?.stop();
	const onStdio = config.console?.kind === "stdio";
	/* The console's reader has gone, so we end, as programs in a pipe do (output.ts has the exit status). */
	const onError = (error: Error) => {
		outputFailed(error);
		stop();
	};
	const console = onStdio ? ({ kind: "own", console: new StdioConsole({ onError }) } as const) : config.console;
	machine = await Machine.create({ ...config, console });
	const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
	for (const signal of signals) process.once(signal, stop);
	const interactive = onStdio && process.stdin.isTTY === true;
	const escapeKey = interactive ? new EscapeKey(stop) : undefined;
	if (interactive) rawTerminal(0);
	try {
		machine.start();
		return await machine.ended;
	} finally {
		if (interactive) restoreTerminal();
		await machine.stop();
		escapeKey?.close();
		for (const signal of signals) process.off(signal, stop);
	}
}

function append<T>(parse: (text: string) => T | undefined): (text: string, before: T[]) => T[] {
	return (text, before) => {
		const value = parse(text);
		return value === undefined ? before : [...before, value];
	};
}

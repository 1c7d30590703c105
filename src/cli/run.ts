/*
 * `tsvmm run`: Docker's flags -> image, kernel, process -> a container in a microVM -> its exit status. All files that
 * must be written (root file system, kernel, initramfs) are made on this host. Without KVM the same command line then
 * runs again in the lab, which finds them.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Command } from "commander";
import type { PortForward } from "../backends/passt-ports.ts";
import { explain, UsageError } from "../base/errors.ts";
import type { StoredImage } from "../container/image/config.ts";
import type { OpenRootfs, RootfsOptions } from "../container/image/rootfs.ts";
import { ImageStore } from "../container/image/store.ts";
import { initramfs } from "../container/initramfs.ts";
import type { PhaseTimes } from "../container/lifecycle.ts";
import { type ProcessSpec, processSpec, readEnvFile, readVariable } from "../container/process-spec.ts";
import type { ContainerMachine, ContainerNetwork } from "../container/run.ts";
import { type ForegroundStdio, ownStdio } from "../host/foreground.ts";
import { openOutput } from "../host/output.ts";
import { findTool } from "../host/tools.ts";
import type { GuestKernel } from "../kernel/store.ts";
import { needsLab, reexecInLab } from "../lab/host.ts";
import { fileShare, outputShare, type Share } from "../lab/shares.ts";
import { validateSize } from "../machine/config.ts";
import { parseCpus, parseMemory, parseNet, parsePort } from "./options.ts";
import { outputFailed, watchOutput } from "./output.ts";

/** What the command line asks for. */
interface ContainerRequest extends Omit<ContainerMachine, "rootfs" | "kernel"> {
	store: ImageStore;
	image: StoredImage;
	process: ProcessSpec;
}

interface RunFlags {
	cpus: string;
	memory: string;
	env: string[];
	envFile: string[];
	workdir?: string;
	user?: string;
	entrypoint?: string;
	hostname?: string;
	name?: string;
	rm: boolean;
	interactive: boolean;
	tty: boolean;
	network?: string;
	publish: PortForward[];
	ip?: string;
	gateway?: string;
	dns: string[];
	kernel?: string;
	cmdline?: string;
	console?: string;
	timings: boolean;
	quiet: boolean;
}

/** The command for main.ts. */
export function runCommand(): Command {
	return new Command("run")
		.description("run a command in a container of its own microVM")
		.argument("<image>", "NAME[:TAG], NAME@DIGEST or the beginning of an image ID")
		.argument("[command...]", "what to run instead of the image's command")
		.passThroughOptions()
		.helpOption("--help", "display help for command")
		.option("--cpus <n>", "vCPUs, 1 to 32", "1")
		.option("-m, --memory <size>", "RAM, as in 512M or 2G", "512M")
		.option("-e, --env <name[=value]>", "set a variable, or pass the host's on; may be repeated", append, [])
		.option("--env-file <file>", "read variables from a file; may be repeated", append, [])
		.option("-w, --workdir <directory>", "working directory in the container")
		.option("-u, --user <user[:group]>", "user in the container, by name or number")
		.option("--entrypoint <program>", "replace the image's entrypoint; '' removes it")
		.option("-h, --hostname <name>", "host name in the container")
		.option("--name <name>", "name of the container; its host name unless one is given")
		.option("--rm", "accepted for Docker's sake: nothing is ever left of a container", false)
		.option("-i, --interactive", "pass standard input on", false)
		.option("-t, --tty", "give the container a terminal", false)
		.option("--net, --network <none|user|tap=NAME[,mac=..]>", "network (default: user; none where passt is missing)")
		.option("-p, --publish <[address:]host:guest[/udp]>", "publish a port; may be repeated", appendPort, [])
		.option("--ip <address/bits>", "the guest's address on a tap")
		.option("--gateway <address>", "the guest's gateway on a tap")
		.option("--dns <address>", "name server; may be repeated", append, [])
		.option("--kernel <name|file>", "a kernel of `tsvmm kernel ls`, or a vmlinux with everything built in")
		.option("--cmdline <text>", "more kernel parameters")
		.option("--console <file=PATH>", "append the guest's console to a file")
		.option("--timings", "say on stderr how long each phase took", false)
		.option("-q, --quiet", "no notes on stderr", false)
		.action(async (image: string, command: string[], flags: RunFlags) => {
			process.exitCode = await run(image, command, flags);
		});
}

async function run(imageName: string, command: string[], flags: RunFlags): Promise<number> {
	const say = (line: string) => {
		if (!flags.quiet) process.stderr.write(`tsvmm: ${line}\n`);
	};
	const request = readRequest(imageName, command, flags, say);
	/* Open until the machine has opened it: the image may be removed meanwhile. */
	await using rootfs = await buildRootfs(request, flags);
	const kernel = await chooseKernel(flags.kernel, say);
	await initramfs({ kernel, fstype: rootfs.fstype, network: request.network !== undefined });
	if (needsLab()) {
		watchOutput();
		const device = request.network?.device;
		const ports = device?.kind === "user" ? (device.ports ?? []) : [];
		return reexecInLab(process.argv.slice(2), { quiet: flags.quiet, ports, shares: namedFiles(flags) });
	}
	const { runInForeground } = await import("../container/run.ts");
	const stdio = hostStdio(flags);
	try {
		const { status, times } = await runInForeground({ ...request, rootfs, kernel }, stdio);
		if (flags.timings) process.stderr.write(`tsvmm: ${describeTimes(times)}\n`);
		return status;
	} finally {
		stdio.close();
	}
}

/** The files that the flags name. The lab needs them, too. */
function namedFiles({ kernel, envFile, console }: RunFlags): Share[] {
	const output = readConsole(console);
	return [
		...[...envFile, ...(kernel?.includes("/") === true ? [kernel] : [])].map((path) => fileShare(path, "ro")),
		...(output === undefined ? [] : [outputShare(output)]),
	];
}

/** Checks the whole command line. */
function readRequest(
	imageName: string,
	command: string[],
	flags: RunFlags,
	say: (line: string) => void,
): ContainerRequest {
	const hostname = readHostname(flags.hostname ?? flags.name ?? randomBytes(6).toString("hex"));
	const cpus = parseCpus(flags.cpus);
	const memoryMiB = parseMemory(flags.memory);
	validateSize(cpus, memoryMiB);
	const network = readNetwork(flags, say);
	const env = [
		...flags.envFile.flatMap((path) => readEnvFile(readTextFile(path), process.env)),
		...flags.env.flatMap((text) => readVariable(text, process.env)),
	];
	const consoleFile = readConsole(flags.console);
	if (flags.tty && flags.interactive && process.stdin.isTTY !== true) {
		throw new UsageError("ERR_RUN_TTY", "Cannot give the container a terminal: standard input is none", {
			hint: "Leave -t out when input comes from a pipe or file",
		});
	}
	const store = new ImageStore();
	const image = store.find(imageName);
	const process_ = processSpec(image.config, {
		command,
		env,
		tty: flags.tty,
		hostname,
		...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint }),
		...(flags.workdir === undefined ? {} : { workdir: flags.workdir }),
		...(flags.user === undefined ? {} : { user: flags.user }),
	});
	return {
		store,
		image,
		process: process_,
		hostname,
		cpus,
		memoryMiB,
		...(network === undefined ? {} : { network }),
		...(consoleFile === undefined ? {} : { consoleFile }),
		...(flags.cmdline === undefined ? {} : { cmdline: flags.cmdline }),
	};
}

async function buildRootfs({ store, image }: ContainerRequest, { quiet }: RunFlags): Promise<OpenRootfs> {
	const { openRootfs } = await import("../container/image/rootfs.ts");
	const { withProgress } = await import("./rootfs-progress.ts");
	const build = (watch: RootfsOptions) => openRootfs(store, image, watch);
	return quiet ? build({}) : withProgress("building the root file system", build);
}

async function chooseKernel(
	wanted: string | undefined,
	say: (line: string) => void,
): Promise<Pick<GuestKernel, "name" | "vmlinux" | "modulesDirectory">> {
	if (wanted === undefined) {
		const { defaultKernel } = await import("../kernel/build.ts");
		return defaultKernel({ onStep: say });
	}
	if (wanted.includes("/")) return { name: wanted, vmlinux: wanted };
	const { findKernel } = await import("../kernel/store.ts");
	const kernel = await findKernel(wanted);
	if (kernel !== undefined) return kernel;
	throw new UsageError("ERR_RUN_KERNEL", `Cannot use kernel "${wanted}": there is none of that name`, {
		hint: "See tsvmm kernel ls for their names; write a file with a slash, as in ./vmlinux",
	});
}

function readNetwork(flags: RunFlags, say: (line: string) => void): ContainerNetwork | undefined {
	const device = parseNet(flags.network ?? defaultNetwork(flags, say));
	if (flags.publish.length > 0 && device?.kind !== "user") {
		throw new UsageError("ERR_RUN_PUBLISH", `Cannot publish ports on network "${flags.network}": only user can`);
	}
	if ((flags.ip !== undefined || flags.gateway !== undefined) && device?.kind !== "tap") {
		throw new UsageError("ERR_RUN_ADDRESS", "Cannot choose the guest's address: that takes --net tap=NAME");
	}
	if (device === undefined) return undefined;
	if (device.kind === "user") device.ports = [...(device.ports ?? []), ...flags.publish];
	for (const address of [flags.ip?.replace(/\/([0-9]|[12][0-9]|3[0-2])$/, ""), flags.gateway, ...flags.dns])
		checkAddress(address);
	return {
		device,
		...(flags.ip === undefined ? {} : { address: flags.ip.includes("/") ? flags.ip : `${flags.ip}/24` }),
		...(flags.gateway === undefined ? {} : { gateway: flags.gateway }),
		...(flags.dns.length === 0 ? {} : { dns: flags.dns }),
	};
}

/** A container has a network, as in Docker. Without passt it has none, unless ports are published. */
function defaultNetwork({ publish }: RunFlags, say: (line: string) => void): string {
	if (publish.length > 0 || findTool("passt") !== undefined) return "user";
	if (!needsLab()) say("the container has no network: passt is not installed");
	return "none";
}

function checkAddress(address: string | undefined): void {
	if (address === undefined) return;
	const bytes = address.split(".");
	if (bytes.length === 4 && bytes.every((byte) => /^\d{1,3}$/.test(byte) && Number(byte) < 256)) return;
	throw new UsageError("ERR_RUN_ADDRESS", `Cannot read IPv4 address "${address}"`);
}

function readHostname(name: string): string {
	if (/^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62})$/.test(name)) return name;
	throw new UsageError(
		"ERR_RUN_HOSTNAME",
		`Cannot use host name "${name}": letters, digits, dots and dashes are wanted`,
	);
}

function readConsole(text: string | undefined): string | undefined {
	if (text === undefined) return undefined;
	if (text.startsWith("file=") && text.length > 5) return text.slice(5);
	throw new UsageError("ERR_OPTION_CONSOLE", `Cannot read console "${text}"`, { hint: "Write file=PATH" });
}

function readTextFile(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch (cause) {
		throw new UsageError("ERR_RUN_ENV", `Cannot read environment file ${path}: ${explain(cause)}`, { cause });
	}
}

/** This process's own streams, terminal and signals. The caller closes them. */
function hostStdio({ interactive, tty }: RunFlags): ForegroundStdio & { close(): void } {
	const opened = [openOutput(1), openOutput(2)];
	const [stdout, stderr] = opened;
	stdout?.on("error", outputFailed);
	stderr?.on("error", () => undefined); /* nobody is left to read it */
	if (stdout === undefined) watchOutput();
	/* SIGPIPE: in the lab this signal says that the reader of our output on the host has gone. */
	const stdio = ownStdio({ stdin: interactive, tty, stdout, stderr, alsoForward: ["SIGPIPE"] });
	return {
		...stdio,
		close: () => {
			stdio.close();
			for (const stream of opened) stream?.destroy();
		},
	};
}

/** "host 85 ms, kernel 640 ms, init 31 ms, payload 12 ms" */
function describeTimes(times: PhaseTimes): string {
	return Object.entries(times)
		.map(([phase, ms]) => `${phase} ${Math.round(ms)} ms`)
		.join(", ");
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

function appendPort(text: string, before: PortForward[]): PortForward[] {
	return [...before, parsePort(text)];
}

/*
 * The flags that `run` and `create` share, as Docker has them, and what they mean: a container's configuration.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { Rlimit } from "../../agent/exec-spec.ts";
import type { PortForward } from "../../backends/passt-ports.ts";
import { explain, UsageError } from "../../base/errors.ts";
import { signalNumber } from "../../base/signals.ts";
import type { StoredImage } from "../../container/image/config.ts";
import { ImageStore } from "../../container/image/store.ts";
import type { ContainerConfig } from "../../container/life/config.ts";
import { readLogLimits } from "../../container/life/log-limits.ts";
import { parseRestartPolicy } from "../../container/life/restart-policy.ts";
import type { ContainerStore } from "../../container/life/store.ts";
import { DEFAULT_WRITABLE_BYTES, LEAST_WRITABLE_BYTES } from "../../container/life/writable-layer.ts";
import { privilegeKeys, readUlimit } from "../../container/privileges.ts";
import { processSpec, readEnvFile, readVariable } from "../../container/process-spec.ts";
import type { ExtraHost, TmpfsMount } from "../../container/setup-steps.ts";
import { readExtraHost, readSysctl, readTmpfs } from "../../container/system-options.ts";
import { type MountRequest, readMountFlag, readVolumeFlag } from "../../container/volume/mount.ts";
import { fileShare, outputShare, type Share } from "../../lab/shares.ts";
import { validateSize } from "../../machine/config.ts";
import { obtainForRun } from "../obtain.ts";
import { parseCpus, parseMemory, parseSize } from "../options.ts";
import { type DeviceRequest, readDeviceFlag } from "./device-flag.ts";
import { type HealthFlags, readHealth } from "./health-flags.ts";
import { type JoinRequest, readJoin, readLimits } from "./join-flags.ts";
import { type NetworkFlags, readNetwork } from "./network-flags.ts";
import { addObserveFlags, type ObserveFlags, observedFiles, readObserved } from "./observe-flags.ts";
import { hostPortsFor, type PublishFlags, parseExpose, parsePublish } from "./publish.ts";

export interface ContainerFlags extends HealthFlags, NetworkFlags, ObserveFlags, PublishFlags {
	addHost: ExtraHost[];
	annotation: string[];
	capAdd: string[];
	capDrop: string[];
	cidfile?: string;
	cmdline?: string;
	cold: boolean;
	console?: string;
	cpus?: string;
	device: DeviceRequest[];
	entrypoint?: string;
	env: string[];
	envFile: string[];
	expose: string[];
	groupAdd: string[];
	hostname?: string;
	init: boolean;
	interactive: boolean;
	kernel?: string;
	label: string[];
	labelFile: string[];
	logDriver: string;
	logOpt: string[];
	memory?: string;
	mount: (MountRequest | TmpfsMount)[];
	name?: string;
	pidsLimit?: string;
	pod?: string;
	platform?: string;
	privileged: boolean;
	pull: string;
	quiet: boolean;
	readOnly: boolean;
	restart: string;
	rm: boolean;
	securityOpt: string[];
	shmSize?: string;
	stopSignal?: string;
	stopTimeout: string;
	storageOpt: string[];
	sysctl: Record<string, string>;
	tmpfs: TmpfsMount[];
	tty: boolean;
	ulimit: Rlimit[];
	user?: string;
	volume: MountRequest[];
	workdir?: string;
}

/** Adds the flags to a command. */
export function addContainerFlags(command: Command): Command {
	command
		.argument("<image>", "NAME[:TAG], NAME@DIGEST or the beginning of an image ID")
		.argument("[command...]", "what to run instead of the image's command")
		.passThroughOptions()
		.helpOption("--help", "display help for command")
		.option("--name <name>", "name of the container; a random one when missing")
		.option("--rm", "remove the container when it has ended", false)
		.option("-i, --interactive", "pass standard input on", false)
		.option("-t, --tty", "give the container a terminal", false)
		.option("-e, --env <name[=value]>", "set a variable, or pass the host's on; may be repeated", append, [])
		.option("--env-file <file>", "read variables from a file; may be repeated", append, [])
		.option("-w, --workdir <directory>", "working directory in the container")
		.option("-u, --user <user[:group]>", "user in the container, by name or number")
		.option("--entrypoint <program>", "replace the image's entrypoint; '' removes it")
		.option("-h, --hostname <name>", "host name in the container; its ID when missing")
		.option("--cpus <n>", "vCPUs, 1 to 32 (default: 1)")
		.option("-m, --memory <size>", "RAM, as in 512M or 2G (default: 512M)")
		.option(
			"--net, --network <network>",
			"none, user, NAME, tap=NAME, bridge=NAME, container:NAME; may be repeated (default: user)",
			append,
			[],
		)
		.option("--network-alias <name>", "another name on the first network NAME; may be repeated", append, [])
		.option("--pod <pod>", "join the machine of a pod, and with it the network")
		.option("-p, --publish <[[address:]host:]guest[/udp]>", "publish a port or range; may be repeated", appendPorts, [])
		.option("-P, --publish-all", "publish each exposed port on a port of the host that is free", false)
		.option("--expose <port[/udp]>", "a port or range for -P besides the image's; may be repeated", appendExposed, [])
		.addOption(new Option("--host-ports <numbers>", "for the lab: what this host has chosen").hideHelp())
		.option("--ip <address[/bits]>", "the container's address on the first network: a NAME, tap or bridge")
		.option("--gateway <address>", "the guest's gateway on a tap")
		.option("--dns <address>", "name server; may be repeated", append, [])
		.option("--dns-search <domain>", "where names are looked up, too; may be repeated", append, [])
		.option("--dns-option <option>", "a resolver option; may be repeated", append, [])
		.option("--cap-add <capability>", "a capability besides Docker's default ones, or ALL; may be repeated", append, [])
		.option("--cap-drop <capability>", "a capability that it is not to have, or ALL; may be repeated", append, [])
		.option("--privileged", "all capabilities, nothing of /proc and /sys masked", false)
		.option("--security-opt <option>", "no-new-privileges", append, [])
		.option("--group-add <group>", "a supplementary group; may be repeated", append, [])
		.option("--ulimit <name=soft[:hard]>", "a resource limit; may be repeated", appendUlimit, [])
		.option("--init", "an init as process 1, which reaps orphans", false)
		.option("-v, --volume <[source:]target[:ro]>", "a directory, file or volume; may be repeated", appendVolume, [])
		.option("--mount <type=..,source=..,target=..>", "bind, volume or tmpfs; may be repeated", appendMount, [])
		.option("--device <host[:container[:rwm]]>", "a block device or file as a disk; may be repeated", appendDevice, [])
		.option("--read-only", "nothing but what is mounted can be written", false)
		.option("--tmpfs <path[:options]>", "an empty file system in RAM; may be repeated", appendTmpfs, [])
		.option("--shm-size <size>", "of /dev/shm (default: 64M)")
		.option("--sysctl <name=value>", "a kernel parameter; may be repeated", appendSysctl, {})
		.option("--pids-limit <n>", "processes and threads at once; -1: no limit")
		.option("--add-host <name:address>", "a line of /etc/hosts; may be repeated", appendHost, [])
		.option("--restart <policy>", "no, on-failure[:TIMES], always or unless-stopped", "no")
		.option("--health-cmd <command>", "a shell command, fails when it is not well (default: the image's)")
		.option("--health-interval <time>", "from one check to the next (default: the image's, or 30s)")
		.option("--health-timeout <time>", "how long a check may take (default: the image's, or 30s)")
		.option("--health-retries <n>", "failures in a row: unhealthy (default: the image's, or 3)")
		.option("--health-start-period <time>", "when failures begin to count (default: the image's, or 0s)")
		.option("--no-healthcheck", "no checks, whatever --health-cmd or the image say")
		.option("--stop-signal <signal>", "what `stop` sends (default: the image's, or SIGTERM)")
		.option("--stop-timeout <seconds>", "how long `stop` waits before it kills; -1: for ever", "10")
		.option("-l, --label <name[=value]>", "set a label; may be repeated", append, [])
		.option("--label-file <file>", "read labels from a file; may be repeated", append, [])
		.option("--annotation <name[=value]>", "set an annotation; may be repeated", append, [])
		.option("--log-driver <json-file|none>", "what keeps the output for `logs`", "json-file")
		.option("--log-opt <name=value>", "max-size=SIZE, max-file=COUNT; may be repeated", append, [])
		.option("--storage-opt <size=SIZE>", "how much the container may write (default: 64G)", append, [])
		.option("--pull <missing|always|never>", "when to ask the registry for the image", "missing")
		.option("--platform <os/architecture>", "of an image for several platforms (default: linux/amd64)")
		.option("--cidfile <file>", "write the container's ID to a file")
		.option("--kernel <name|file>", "a kernel of `tsvmm kernel ls`, or a vmlinux with everything built in")
		.option("--cmdline <text>", "more kernel parameters")
		.option("--console <file=PATH>", "append the guest's console to a file")
		.option("--cold", "boot the machine: no template is used, and none is made", false);
	return addObserveFlags(command).option("-q, --quiet", "no notes on stderr", false);
}

/** What is to be made. */
export interface ContainerRequest {
	store: ImageStore;
	image: StoredImage;
	config: Omit<Parameters<ContainerStore["create"]>[0], "mounts">;
	/** Whose machine it joins. */
	join: JoinRequest | undefined;
	/** What `create` makes mounts of. */
	mounts: readonly MountRequest[];
	/** Ports of this host that nobody has named. */
	chosenPorts: readonly number[];
}

/**
 * Checks the whole command line, and brings the image if need be.
 *
 * @param attached whether standard input goes to the container
 */
export async function readContainer(
	imageName: string,
	command: readonly string[],
	flags: ContainerFlags,
	{ attached, note }: { attached: boolean; note: (line: string) => void },
): Promise<ContainerRequest> {
	const { interactive, tty } = flags;
	const cpus = parseCpus(flags.cpus ?? "1");
	const memoryMiB = parseMemory(flags.memory ?? "512M");
	validateSize(cpus, memoryMiB);
	const join = readJoin(flags);
	const planned = join === undefined ? readNetwork(flags, note) : undefined;
	const env = [
		...flags.envFile.flatMap((path) => readEnvFile(readTextFile(path, "environment"), process.env)),
		...flags.env.flatMap((text) => readVariable(text, process.env)),
	];
	const consoleFile = readConsole(flags.console);
	const observed = readObserved(flags, attached);
	const mounts = readMounts(flags);
	const system = readSystem(flags);
	if (observed?.faults !== undefined) {
		const { checkFaults } = await import("../../container/life/check-faults.ts");
		checkFaults({ observed, cpus, memoryMiB, system, devices: flags.device, network: planned }, mounts.length);
	}
	if (tty && interactive && attached && process.stdin.isTTY !== true) {
		throw new UsageError("ERR_RUN_TTY", "Cannot give the container a terminal: standard input is none", {
			hint: "Leave -t out when input comes from a pipe or file",
		});
	}
	const restart = parseRestartPolicy(flags.restart);
	if (flags.rm && restart.name !== "no") {
		throw new UsageError("ERR_RUN_RESTART", "Cannot both restart and remove the container when it has ended", {
			hint: "Leave --rm or --restart out",
		});
	}
	/* What is wrong with a flag is said before an image is brought. */
	readHealth({ ...flags, healthCmd: "" });
	const labels = readPairs([...flags.labelFile.flatMap(readLines), ...flags.label], "label");
	const annotations = readPairs(flags.annotation, "annotation");
	const writableBytes = readStorage(flags.storageOpt);
	const stopTimeoutMs = readSeconds(flags.stopTimeout) * 1000;
	const logDriver = readLogDriver(flags.logDriver);
	const logOptions = readPairs(flags.logOpt, "log option");
	readLogLimits(logOptions);
	const chosenStopSignal = flags.stopSignal === undefined ? undefined : readSignal(flags.stopSignal);
	const hostname = readHostname(flags.hostname ?? randomBytes(6).toString("hex"));
	const store = new ImageStore();
	const image = await obtainForRun(store, imageName, flags);
	const exposedPorts = [...new Set([...image.config.exposedPorts, ...flags.expose])];
	const { publish, chosen: chosenPorts } = await hostPortsFor(flags, exposedPorts);
	/* Once more, with all ports that there are; what was to be noted is. */
	const network = join === undefined ? readNetwork({ ...flags, publish }, () => undefined) : undefined;
	const health = readHealth(flags, image.config.healthcheck);
	const process_ = processSpec(image.config, {
		command,
		env,
		tty,
		hostname,
		...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint }),
		...(flags.workdir === undefined ? {} : { workdir: flags.workdir }),
		...(flags.user === undefined ? {} : { user: flags.user }),
	});
	const config: ContainerRequest["config"] = {
		image: { name: imageName, digest: image.digest, id: image.id },
		process: { ...process_, tty, init: flags.init, openStdin: interactive, stdinOnce: interactive && attached },
		privileges: readPrivileges(flags),
		system,
		...(flags.device.length === 0 ? {} : { devices: flags.device }),
		hostname,
		cpus,
		memoryMiB,
		writableBytes,
		restart,
		stopSignal: chosenStopSignal ?? signalNumber(image.config.stopSignal) ?? constants.signals.SIGTERM,
		stopTimeoutMs,
		autoRemove: flags.rm,
		labels: { ...image.config.labels, ...labels },
		annotations,
		logDriver,
		...(flags.logOpt.length === 0 ? {} : { logOptions }),
		exposedPorts,
		...(health === undefined ? {} : { health }),
		...(network === undefined ? {} : { network }),
		...(flags.kernel === undefined
			? {}
			: { kernel: flags.kernel.includes("/") ? resolve(flags.kernel) : flags.kernel }),
		...(flags.cmdline === undefined ? {} : { cmdline: flags.cmdline }),
		...(consoleFile === undefined ? {} : { consoleFile: resolve(consoleFile) }),
		...(flags.cold ? { cold: true } : {}),
		...(observed === undefined ? {} : { observed }),
	};
	return { store, image, config, mounts, join, chosenPorts };
}

/** The files that the flags name. The lab needs them, too. */
export function namedFiles(flags: ContainerFlags): Share[] {
	const { kernel, envFile, labelFile, console, cidfile } = flags;
	const output = readConsole(console);
	const binds = readMounts(flags).filter(({ type }) => type === "bind");
	return [
		...flags.device.map(({ source, readOnly }) => fileShare(source, readOnly ? "ro" : "rw")),
		...binds.map(({ source, readOnly }) => fileShare(source!, readOnly ? "ro" : "rw")),
		...[...envFile, ...labelFile, ...(kernel?.includes("/") === true ? [kernel] : [])].map((path) =>
			fileShare(path, "ro"),
		),
		...[output, cidfile].filter((path) => path !== undefined).map(outputShare),
		...observedFiles(flags),
	];
}

/** By name, with or without SIG, or number. @throws UsageError ERR_RUN_SIGNAL */
export function readSignal(text: string): number {
	const signal = signalNumber(text.toUpperCase());
	if (signal !== undefined && signal > 0 && signal <= 64) return signal;
	throw new UsageError("ERR_RUN_SIGNAL", `Cannot use signal "${text}": there is none of that name or number`);
}

/** Whole seconds; -1 for ever. @throws UsageError ERR_RUN_SECONDS */
export function readSeconds(text: string): number {
	if (/^-1$|^\d{1,7}$/.test(text)) return Number(text);
	throw new UsageError("ERR_RUN_SECONDS", `Cannot read "${text}" as a number of seconds`);
}

function readPrivileges(flags: ContainerFlags): ContainerConfig["privileges"] {
	const { privileged, capAdd, capDrop, groupAdd, ulimit, securityOpt } = flags;
	for (const option of securityOpt) {
		if (/^no-new-privileges([=:](true|false))?$/.test(option)) continue;
		throw new UsageError("ERR_RUN_SECURITY", `Cannot use security option "${option}"`, {
			hint: "Use no-new-privileges; the machine's wall replaces the others",
		});
	}
	const noNewPrivileges = securityOpt.some((option) => !option.endsWith("false"));
	const privileges = { privileged, capAdd, capDrop, groupAdd, ulimits: ulimit, noNewPrivileges };
	/* Throws for a name that is none. */
	privilegeKeys(privileges);
	return privileges;
}

function readSystem(flags: ContainerFlags): ContainerConfig["system"] {
	const { readOnly, tmpfs, mount, shmSize, sysctl, addHost } = flags;
	return {
		readOnlyRoot: readOnly,
		tmpfs: [...tmpfs, ...mount.filter((one) => !("type" in one))],
		...(shmSize === undefined ? {} : { shmSizeBytes: parseSize(shmSize) }),
		sysctls: sysctl,
		extraHosts: addHost,
		cgroupLimits: readLimits(flags),
	};
}

/** One of each target. */
function readMounts({ volume, mount }: ContainerFlags): MountRequest[] {
	const mounts = [...volume, ...mount.filter((one) => "type" in one)];
	const targets = mounts.map(({ target }) => target);
	const twice = targets.find((target, i) => targets.indexOf(target) !== i);
	if (twice === undefined) return mounts;
	throw new UsageError("ERR_RUN_VOLUME", `Cannot mount two things at ${twice}`, { hint: "Leave one of them out" });
}

function readLogDriver(text: string): ContainerConfig["logDriver"] {
	if (text === "json-file" || text === "none") return text;
	throw new UsageError("ERR_RUN_LOG_DRIVER", `Cannot use log driver "${text}": json-file and none are possible`);
}

function readStorage(options: readonly string[]): number {
	let bytes = DEFAULT_WRITABLE_BYTES;
	for (const option of options) {
		if (!option.startsWith("size=")) {
			throw new UsageError("ERR_RUN_STORAGE", `Cannot read storage option "${option}": size=SIZE is possible`);
		}
		bytes = parseSize(option.slice("size=".length));
	}
	if (bytes >= LEAST_WRITABLE_BYTES && bytes <= 2 ** 44) return bytes;
	throw new UsageError("ERR_RUN_STORAGE", `Cannot give the container ${bytes} bytes to write: 16M to 16T are possible`);
}

function readPairs(texts: readonly string[], what: string): Record<string, string> {
	return Object.fromEntries(
		texts.map((text) => {
			const at = text.indexOf("=");
			const name = at < 0 ? text : text.slice(0, at);
			if (name === "") throw new UsageError("ERR_RUN_LABEL", `Cannot set ${what} "${text}": it has no name`);
			return [name, at < 0 ? "" : text.slice(at + 1)];
		}),
	);
}

function readLines(path: string): string[] {
	const lines = readTextFile(path, "label").split(/\r?\n/);
	return lines.map((line) => line.trimStart()).filter((line) => line !== "" && !line.startsWith("#"));
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

function readTextFile(path: string, what: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch (cause) {
		throw new UsageError("ERR_RUN_ENV", `Cannot read ${what} file ${path}: ${explain(cause)}`, { cause });
	}
}

function append(text: string, before: string[]): string[] {
	return [...before, text];
}

function appendTmpfs(text: string, before: TmpfsMount[]): TmpfsMount[] {
	return [...before, readTmpfs(text)];
}

function appendHost(text: string, before: ExtraHost[]): ExtraHost[] {
	return [...before, readExtraHost(text)];
}

function appendSysctl(text: string, before: Record<string, string>): Record<string, string> {
	const [name, value] = readSysctl(text);
	return { ...before, [name]: value };
}

function appendVolume(text: string, before: MountRequest[]): MountRequest[] {
	return [...before, readVolumeFlag(text)];
}

function appendMount(text: string, before: ContainerFlags["mount"]): ContainerFlags["mount"] {
	return [...before, readMountFlag(text)];
}

function appendDevice(text: string, before: DeviceRequest[]): DeviceRequest[] {
	return [...before, readDeviceFlag(text)];
}

function appendUlimit(text: string, before: Rlimit[]): Rlimit[] {
	return [...before, readUlimit(text)];
}

function appendPorts(text: string, before: PortForward[]): PortForward[] {
	return [...before, ...parsePublish(text)];
}

function appendExposed(text: string, before: string[]): string[] {
	return [...before, ...parseExpose(text)];
}

/*
 * `runContainer` runs one process of an image or a root file system in a microVM. The machine gets the image as
 * read-only disk "root", vsock for the agent, and a network if the caller wants one.
 */
import { randomBytes } from "node:crypto";
import { userNetwork } from "../backends/passt.ts";
import { UsageError } from "../base/errors.ts";
import { log } from "../base/log.ts";
import { signalNumber } from "../base/signals.ts";
import type { Timeline } from "../base/timeline.ts";
import type { GuestKernel } from "../kernel/store.ts";
import { type MachineConfig, type RestoreConfig, validateSize } from "../machine/config.ts";
import type { OwnFsConfig } from "../machine/devices/fs.ts";
import type { NetConfig } from "../machine/devices/net.ts";
import { Machine } from "../machine/machine.ts";
import { checkTraceFile } from "../trace/file-config.ts";
import { Container } from "./container.ts";
import { type ContainerDevice, deviceDisks, diskSteps } from "./devices.ts";
import { guestOf, TailConsole } from "./guest.ts";
import type { RootfsImage } from "./image/rootfs.ts";
import { initramfs } from "./initramfs.ts";
import type { TakenMachine, WaitingMachine } from "./pool/waiting-machine.ts";
import { type Privileges, privilegeKeys } from "./privileges.ts";
import { type ImageProcess, processSpec } from "./process-spec.ts";
import type { GuestMachine } from "./running-machine.ts";
import {
	type ContainerSystem,
	type GuestNetwork,
	interfaceSteps,
	machineSteps,
	type SetupStep,
	type SystemOptions,
	setupSteps,
} from "./setup-steps.ts";
import { type ContainerShare, fsConfigs, shareSteps } from "./shares.ts";
import { CMDLINE, TEMPLATE_DEVICES } from "./template/make.ts";
import { type RejectTemplate, SEED_BYTES, type WarmMachine, warmMachine } from "./template/restore.ts";
import { sharedShape } from "./template/shape.ts";
import { startMachine } from "./template/start.ts";
import { mayBeWarm, type TemplateShape } from "./template/store.ts";

/** A network as the user describes it: the device, and for a tap the guest's addresses. */
export type ContainerNetwork = { device: NetConfig } & Partial<GuestNetwork>;

/** Who looks on at a machine, and what goes wrong in it on purpose: as of MachineConfig. */
export type Observation = Pick<RestoreConfig, "traceFiles" | "observer" | "faults">;

/** The machine of a container. With `faults` it boots, whatever templates there are: a seed then gives the same faults. */
export interface ContainerMachine extends SystemOptions, Observation {
	/** Its root file system, read-only. An image is unpacked to one. */
	rootfs: RootfsImage;
	/**
	 * A kernel of `tsvmm kernel ls`, or your own: an ELF kernel with virtio over MMIO, vsock, squashfs and overlayfs,
	 * built in or as modules.
	 */
	kernel: Pick<GuestKernel, "name" | "vmlinux" | "modulesDirectory">;
	/** Its name in its own UTS namespace. */
	hostname: string;
	/** vCPUs, 1 to 32. */
	cpus: number;
	/** A file with an ext4 file system for the files that the container writes; RAM holds them when missing. */
	writable?: string;
	/** RAM in MiB, 64 and up. The files that the container writes are in it, unless `writable` is given. */
	memoryMiB: number;
	/** Its interfaces eth0, eth1 and so on; only loopback when missing. */
	networks?: readonly ContainerNetwork[];
	/** Directories and files of the host that it sees; none when missing. */
	shares?: readonly ContainerShare[];
	/** Block devices and files of the host that are disks in it; none when missing. */
	devices?: readonly ContainerDevice[];
	/** Where the guest's console is written to as well. */
	consoleFile?: string;
	/** More kernel parameters. */
	cmdline?: string;
	/** The machine boots, whatever templates there are (docs/snapshots.md); false when missing. */
	cold?: boolean;
}

/** What `runContainer` runs. It needs `image` or `rootfs`. */
export interface ContainerOptions extends Partial<ContainerMachine>, Privileges {
	/** An imported image: NAME[:TAG], NAME@DIGEST or the beginning of an image ID. */
	image?: string;
	/** The command, in place of the image's; its first word is looked up in PATH. */
	args?: readonly string[];
	/** In place of the image's entrypoint; "" removes it. */
	entrypoint?: string;
	/** Added to the image's, or in place of it, by name. */
	env?: Readonly<Record<string, string>>;
	/** Absolute. When missing: the image's, or "/". It is made if it does not exist. */
	cwd?: string;
	/** "name", "uid", "name:group", "uid:gid"; the image's or root when missing. */
	user?: string;
	/** As `docker run --init`: process 1 only reaps, the command is another one. It is process 1 itself when missing. */
	init?: boolean;
	/** A terminal of this size as the process's standard streams. */
	tty?: { columns: number; rows: number };
	/**
	 * "pipe": the process reads what is written to `stdin`. "null", the default: it reads /dev/null. A `tty` is always
	 * read from `stdin`.
	 */
	stdin?: "pipe" | "null";
	/** Ends the machine. All that waits fails with its reason. */
	signal?: AbortSignal;
}

/** Serial number of the disk with the image. */
export const ROOT_DISK = "root";
/** Of the disk that keeps what the container writes. */
const WRITABLE_DISK = "writable";

/**
 * Starts a container in a microVM of its own. Resolves when its process runs.
 *
 * @param options `kernel`: tsvmm's own or Debian's cloud kernel, fetched if need be; `cpus`: 1; `memoryMiB`: 512;
 * `hostname`: a random one; no network
 * @returns the container; the caller ends it by `stop` or `await using`
 * @throws UsageError for options that make no sense, ImageError for an image that is not there, ExecError when the
 * process cannot be started, GuestError when the machine ends before, HostError for what the host lacks, the signal's
 * reason. Nothing is left then.
 */
export async function runContainer(options: ContainerOptions): Promise<Container> {
	const { hostname = randomBytes(6).toString("hex"), cpus = 1, memoryMiB = 512, tty, signal } = options;
	validateSize(cpus, memoryMiB);
	await using root = await rootOf(options);
	const { rootfs, image, stopSignal } = root;
	const spec = processSpec(image, {
		command: options.args ?? [],
		env: Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`),
		tty: tty !== undefined,
		hostname,
		...(options.entrypoint === undefined ? {} : { entrypoint: options.entrypoint }),
		...(options.cwd === undefined ? {} : { workdir: options.cwd }),
		...(options.user === undefined ? {} : { user: options.user }),
	});
	signal?.throwIfAborted();
	const kernel = options.kernel ?? (await kernelOf(signal));
	const machine: ContainerMachine = { ...options, rootfs, kernel, hostname, cpus, memoryMiB };
	const create = (cold: boolean) => createMachine({ ...machine, cold, workdir: spec.cwd }, signal);
	const { created, running } = await startMachine(create, {
		cold: options.cold,
		signal,
		warn: (line) => log("warn", line),
	});
	const stdin = options.stdin ?? "null";
	const may = privilegeKeys(options);
	const process = () => ({ ...spec, ...may, ...(tty === undefined ? { stdin } : { tty }) });
	const { steps, keeps } = created;
	return Container.inMachine(running, { steps, keeps, process, init: options.init, stopSignal, signal });
}

async function kernelOf(signal: AbortSignal | undefined): Promise<GuestKernel> {
	const { defaultKernel } = await import("../kernel/build.ts");
	return defaultKernel(signal === undefined ? {} : { signal });
}

/** The root file system, and what its image says about the process. */
interface Root extends AsyncDisposable {
	rootfs: RootfsImage;
	image: ImageProcess;
	stopSignal?: number | undefined;
}

/**
 * An image's root file system stays open until this is disposed of. A root file system that the caller gave is not
 * closed.
 */
async function rootOf({ image: name, rootfs, signal }: ContainerOptions): Promise<Root> {
	if ((name === undefined) === (rootfs === undefined)) {
		throw new UsageError("ERR_RUN_ROOT", "Cannot run a container: either an image or a rootfs is wanted");
	}
	if (rootfs !== undefined) {
		const image = { env: [], entrypoint: [], cmd: [], workingDir: "", user: "" };
		return { rootfs, image, [Symbol.asyncDispose]: () => Promise.resolve() };
	}
	const [{ ImageStore }, { openRootfs }] = await Promise.all([import("./image/store.ts"), import("./image/rootfs.ts")]);
	const store = new ImageStore();
	const image = store.find(name!);
	const opened = await openRootfs(store, image, signal === undefined ? {} : { signal });
	return {
		rootfs: opened,
		image: image.config,
		stopSignal: signalNumber(image.config.stopSignal),
		[Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
	};
}

/** The machine of a container, as configuration. */
export function machineConfig(options: ContainerMachine, initrd: string): MachineConfig {
	const { kernel, cpus, memoryMiB, cmdline } = options;
	return {
		...hostSide(options),
		kernel: kernel.vmlinux,
		initrd,
		cmdline: ["quiet", ...(cmdline === undefined ? [] : [cmdline])].join(" "),
		cpus,
		memoryMiB,
	};
}

/** What the machine of a container has of this host. */
type HostSide = Pick<ContainerMachine, "rootfs" | "writable" | "networks" | "shares" | "devices" | "consoleFile"> &
	Observation;

function hostSide({ rootfs, writable, networks = [], shares = [], devices = [], consoleFile, ...rest }: HostSide) {
	return {
		...observationOf(rest),
		disks: [
			{ path: rootfs.path, fd: rootfs.fd, format: "raw" as const, readOnly: true, id: ROOT_DISK },
			...(writable === undefined ? [] : [{ path: writable, format: "raw" as const, id: WRITABLE_DISK }]),
			...deviceDisks(devices),
		],
		nets: networks.map(({ device }) => device),
		vsock: { cid: 3 },
		fs: fsConfigs(shares),
		rng: true,
		balloon: {},
		console: { kind: "file", path: consoleFile ?? "/dev/null" },
	} satisfies RestoreConfig;
}

function observationOf({ traceFiles, observer, faults }: Observation): Observation {
	return { traceFiles, observer, faults };
}

/** With user-mode networking the guest's addresses are fixed. With a tap the user gives them. */
export function addresses(network: ContainerNetwork): GuestNetwork {
	const { device, ...wanted } = network;
	if (device.kind !== "user") return { ...wanted, dns: wanted.dns ?? [] };
	const { address, prefixLength, gateway, dns, mtu } = userNetwork;
	return { ...wanted, address: `${address}/${prefixLength}`, gateway, dns: wanted.dns ?? [dns], mtu };
}

/** A machine for one container, not yet started. */
export interface CreatedMachine extends CreatedSharedMachine {
	/** They set the container up in it. */
	steps: readonly SetupStep[];
	/** As in ContainerPlan. */
	keeps: boolean;
}

/** What createMachine takes besides. */
export interface CreateOptions {
	/** Where the container's process starts. */
	workdir: string;
	/** Resolves when the file `writable` is there; what needs no disk is done meanwhile. */
	prepared?: Promise<void> | undefined;
	/** Gets what has been reached when. */
	timeline?: Timeline | undefined;
}

/**
 * Makes it of its template, if there is one and nothing needs a boot.
 *
 * @param waiting a machine of a pool, which is taken if it fits, and ended if not
 */
export async function createMachine(
	{ prepared, timeline, ...options }: ContainerMachine & CreateOptions,
	signal?: AbortSignal,
	waiting?: WaitingMachine,
): Promise<CreatedMachine> {
	const { rootfs, writable, networks, kernel, consoleFile, shares = [], devices = [], ...rest } = options;
	for (const file of options.traceFiles ?? []) checkTraceFile(file);
	const system: ContainerSystem = {
		...rest,
		mounts: [...shareSteps(shares), ...diskSteps(devices)],
		rootDisk: ROOT_DISK,
		fstype: rootfs.fstype,
		...(writable === undefined ? {} : { writableDisk: WRITABLE_DISK }),
		...(networks === undefined ? {} : { networks: networks.map(addresses) }),
	};
	const common = {
		networks: system.networks ?? [],
		steps: setupSteps(system),
		keeps: writable !== undefined || shares.length > 0,
	};
	const own = machineSteps(system);
	const console = new TailConsole(consoleFile);
	const shape = mayHaveTemplate(options) ? await sharedShape(options) : undefined;
	timeline?.mark("shape");
	const added = async () => {
		await prepared;
		return machineConfig(options, shape!.initrd);
	};
	const taken = await waiting?.take(shape, added, signal);
	if (taken !== undefined) {
		timeline?.mark("plug");
		return { ...common, ...taken, machineSteps: [...taken.steps, ...own], steps: common.steps };
	}
	let warning: string | undefined;
	const onRejected = (message: string) => {
		warning = message;
	};
	const watch = { console, signal, onRejected, observation: observationOf(options) };
	const warm = shape && (await warmMachine(shape, added, watch));
	if (warm !== undefined) {
		timeline?.mark("plug");
		return { ...common, ...warmGuest(warm, console), machineSteps: [...warm.steps, ...own] };
	}
	const fstypes = [rootfs.fstype, ...(writable === undefined ? [] : ["ext4"])];
	const initrd = await initramfs({ kernel, fstypes, network: networks !== undefined, shares: shares.length > 0 });
	await prepared;
	timeline?.mark("initramfs");
	const opened = await openMachine(machineConfig(options, initrd), console, signal);
	return { ...common, ...opened, machineSteps: own, warning, lacksTemplate: shape };
}

/**
 * Makes the machine of a container that was saved. Its processes are in it.
 *
 * @param path of the snapshot
 * @throws SnapshotError; what opening a disk, a network or a directory says
 */
export async function restoreMachine(path: string, host: HostSide, signal?: AbortSignal): Promise<CreatedMachine> {
	const begun = performance.now();
	const console = new TailConsole(host.consoleFile);
	const machine = await Machine.restore(path, {
		...hostSide(host),
		console: { kind: "own", console },
		...(signal === undefined ? {} : { signal }),
	});
	const guest = { ...guestOf(machine, console), restoredMs: performance.now() - begun };
	/* Another machine may have gone on from the same bytes. */
	const seed: SetupStep = ["entropy", randomBytes(SEED_BYTES).toString("hex")];
	return {
		machine,
		guest,
		networks: (host.networks ?? []).map(addresses),
		machineSteps: [seed],
		steps: [],
		keeps: true,
	};
}

/** What is told of the kernel as it boots, or tells it something, needs a boot, and so does what goes wrong in it. */
function mayHaveTemplate({ cold = false, cmdline, consoleFile, faults }: ContainerMachine): boolean {
	return mayBeWarm() && !cold && [cmdline, consoleFile, faults].every((one) => one === undefined);
}

/** What a machine that containers join has itself. */
export type SharedMachineOptions = Pick<ContainerMachine, "kernel" | "cpus" | "memoryMiB" | "networks"> & {
	fs?: readonly OwnFsConfig[];
	/** It boots, whatever templates there are; false when missing. */
	cold?: boolean;
};

/** A machine without a container of its own, not yet started; containers join it with their disks. */
export interface CreatedSharedMachine extends OpenedMachine {
	/** In the agent's own root, before any container. */
	machineSteps: readonly SetupStep[];
	/** Of a machine whose agent was greeted before. */
	broker?: TakenMachine["broker"];
	/** Of a machine that is made of a template: no other one should be. */
	rejectTemplate?: RejectTemplate;
	/** The template that it would have been made of. */
	lacksTemplate?: TemplateShape | undefined;
	/** What was wrong with its template. */
	warning?: string | undefined;
}

/** Makes it of its template, if there is one. */
export async function createSharedMachine(
	options: SharedMachineOptions,
	signal?: AbortSignal,
): Promise<CreatedSharedMachine> {
	const { networks = [], fs = [], cold = false } = options;
	const shape = await sharedShape(options);
	const guestNetworks = networks.map(addresses);
	const interfaces = interfaceSteps(guestNetworks);
	const console = new TailConsole(undefined);
	const nets = networks.map(({ device }) => device);
	const warm = cold ? undefined : await warmMachine(shape, async () => ({ nets, fs }), { console, signal });
	if (warm !== undefined) {
		return { ...warmGuest(warm, console), networks: guestNetworks, machineSteps: [...warm.steps, ...interfaces] };
	}
	const opened = await openMachine({ ...shape, ...TEMPLATE_DEVICES, cmdline: CMDLINE, nets, fs }, console, signal);
	return { ...opened, networks: guestNetworks, machineSteps: interfaces };
}

/** A machine that is ready to start, as itself and as a container sees it. */
export interface OpenedMachine {
	machine: Machine;
	guest: GuestMachine;
	/** Its interfaces, and how its containers reach networks by them. */
	networks: readonly GuestNetwork[];
}

async function openMachine(
	config: MachineConfig,
	console: TailConsole,
	signal: AbortSignal | undefined,
): Promise<Omit<OpenedMachine, "networks">> {
	const machine = await Machine.create({
		...config,
		console: { kind: "own", console },
		...(signal === undefined ? {} : { signal }),
	});
	return { machine, guest: guestOf(machine, console) };
}

function warmGuest({ machine, restoredMs, reject: rejectTemplate }: WarmMachine, console: TailConsole) {
	return { machine, guest: { ...guestOf(machine, console), restoredMs }, rejectTemplate };
}

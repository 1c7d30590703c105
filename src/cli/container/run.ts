/*
 * `tsvmm run` and `tsvmm create`: Docker's flags -> a container with a directory of its own -> its supervisor -> its
 * exit status. What takes writing (root file system, kernel, initramfs) is prepared on this host; without KVM the same
 * command line then runs once more in the lab and finds it there.
 */
import { Command, Option } from "commander";
import type { RootfsOptions } from "../../container/image/rootfs.ts";
import { initramfs } from "../../container/initramfs.ts";
import { removeContainer, startContainer } from "../../container/life/commands.ts";
import { type Joins, publishedPorts } from "../../container/life/config.ts";
import { containerKernel } from "../../container/life/kernel.ts";
import { machineSize } from "../../container/life/machine-size.ts";
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { findPod } from "../../container/pod/store.ts";
import { sharedShape } from "../../container/template/shape.ts";
import { mayBeWarm } from "../../container/template/store.ts";
import { dropMounts, makeSources, prepareMounts } from "../../container/volume/mount.ts";
import { VolumeStore } from "../../container/volume/store.ts";
import { needsLab, reexecInLab } from "../../lab/host.ts";
import { DETACH_KEYS_FLAG } from "../detach-keys.ts";
import { watchOutput } from "../output.ts";
import { checkCidFile, removeEmptyCidFile, withCidFile } from "./cid-file.ts";
import { addDebugFlags, type DebugFlags, debugInLab, mustBeFree, readDebug } from "./debug-flags.ts";
import { addContainerFlags, type ContainerFlags, type ContainerRequest, namedFiles, readContainer } from "./flags.ts";
import { attachForeground, commandStdio } from "./foreground.ts";
import { type JoinRequest, readJoin } from "./join-flags.ts";
import { printedNotes } from "./observe-flags.ts";
import { withHostPorts } from "./publish.ts";
import type { RunTimings } from "./run-timings.ts";
import { warn } from "./warn.ts";

interface RunFlags extends ContainerFlags, DebugFlags {
	detach: boolean;
	detachKeys?: string;
	timings: boolean;
	json: boolean;
}

/** The commands for main.ts. */
export function runCommand(): Command {
	const command = new Command("run").description("run a command in a container of its own microVM");
	return addDebugFlags(addContainerFlags(command))
		.option("-d, --detach", "leave it running, and print its ID", false)
		.option(...DETACH_KEYS_FLAG)
		.option("--timings", "say on stderr how long each phase of the start took", false)
		.addOption(new Option("--json", "say so in JSON").default(false).implies({ timings: true }))
		.action(async (image: string, command: string[], flags: RunFlags) => {
			process.exitCode = await run(image, command, flags);
		});
}

export function createCommand(): Command {
	return addContainerFlags(new Command("create").description("make a container; `start` runs it")).action(
		async (image: string, command: string[], flags: ContainerFlags) => {
			const { request, inLab } = await prepare(image, command, { ...flags, detach: true });
			process.exitCode = inLab ?? 0;
			if (inLab === undefined) process.stdout.write(`${(await create(request, flags)).id}\n`);
		},
	);
}

async function run(image: string, command: string[], flags: RunFlags): Promise<number> {
	const timings = flags.timings ? new (await import("./run-timings.ts")).RunTimings() : undefined;
	const debug = readDebug(flags, readJoin(flags));
	if (!needsLab()) await mustBeFree(debug);
	const { request, inLab } = await prepare(image, command, flags, timings);
	if (inLab !== undefined) return inLab;
	const container = await create(request, flags);
	timings?.mark("create");
	const options = { timings: timings !== undefined, debug };
	if (flags.detach) {
		watchOutput();
		const told = debug === undefined ? undefined : await printedNotes(flags, { debug, stdio: process });
		const launch = await startContainer(container, { ...options, notes: told });
		await launch?.running.finally(() => told?.finished());
		timings?.started(container);
		if (!flags.quiet) warn(container);
		process.stdout.write(`${container.id}\n`);
		timings?.report(flags);
		return 0;
	}
	const stdio = commandStdio(flags);
	const notes = await printedNotes(flags, { observed: request.config.observed, debug, stdio });
	try {
		const launch = await startContainer(container, { ...options, awaitAttach: true, notes });
		const status = await attachForeground(container, launch?.running, stdio, (session) => {
			timings?.started(container, session);
			if (!flags.quiet) warn(container);
		});
		timings?.report(flags);
		return status;
	} finally {
		await notes?.finished();
		stdio.close();
	}
}

/** What the container needs of this host is there; where its machine must run in the lab, all of it has run there. */
async function prepare(
	image: string,
	command: string[],
	flags: ContainerFlags & { detach?: boolean } & Partial<DebugFlags>,
	timings?: RunTimings,
): Promise<{ request: ContainerRequest; inLab: number | undefined }> {
	const note = (line: string) => {
		if (!flags.quiet) process.stderr.write(`tsvmm: ${line}\n`);
	};
	if (flags.cidfile !== undefined) checkCidFile(flags.cidfile);
	const attached = flags.detach !== true;
	const request = await readContainer(image, command, flags, { attached, note });
	await using rootfs = await buildRootfs(request, flags);
	timings?.mark("root");
	const kernel = await containerKernel(flags.kernel, { onStep: note });
	const { network, cpus, memoryMiB, cold = false } = request.config;
	await initramfs({ kernel, fstypes: [rootfs.fstype, "ext4"], network: network !== undefined });
	if (mayBeWarm() && !cold) await sharedShape({ kernel, cpus, memoryMiB });
	timings?.mark("prepare");
	if (!needsLab()) return { request, inLab: undefined };
	watchOutput();
	/* Sources that are not there are made here: the lab is only given what is. */
	makeSources(request.mounts);
	const given = withHostPorts(process.argv.slice(2), request.chosenPorts);
	const debugged = await debugInLab(flags, given);
	const { words } = debugged;
	const ports = attached ? [...publishedPorts(request.config), ...debugged.ports] : [];
	try {
		const inLab = await reexecInLab(words, { quiet: flags.quiet, ports, shares: namedFiles(flags) });
		return { request, inLab };
	} finally {
		if (flags.cidfile !== undefined) removeEmptyCidFile(flags.cidfile);
	}
}

async function buildRootfs({ store, image }: ContainerRequest, { quiet }: ContainerFlags) {
	const { openRootfs } = await import("../../container/image/rootfs.ts");
	const { withProgress } = await import("../progress-bar.ts");
	const build = (watch: RootfsOptions) => openRootfs(store, image, watch);
	return quiet ? build({}) : withProgress("building the root file system", build);
}

async function create(request: ContainerRequest, { name, cidfile }: ContainerFlags): Promise<StoredContainer> {
	if (cidfile === undefined) return await store(request, name);
	return await withCidFile(cidfile, async (write) => {
		const container = await store(request, name);
		try {
			write(container.id);
			return container;
		} catch (error) {
			await removeContainer(container);
			throw error;
		}
	});
}

async function store({ config, mounts, join }: ContainerRequest, name: string | undefined): Promise<StoredContainer> {
	const containers = new ContainerStore();
	await containers.collectLeftovers();
	const joined = join === undefined ? {} : memberConfig(config, findMachine(containers, join));
	const volumes = new VolumeStore();
	const prepared = await prepareMounts(mounts, volumes);
	try {
		return await containers.create({ ...config, ...joined, mounts: prepared }, name);
	} catch (error) {
		await dropMounts(prepared, volumes);
		throw error;
	}
}

/** What no flag limits is as large as the machine. */
function memberConfig({ cpus, memoryMiB, system }: ContainerRequest["config"], joins: Joins) {
	const machine = machineSize({ cpus, memoryMiB, joins });
	return {
		joins,
		cpus: "cpu.max" in system.cgroupLimits ? cpus : machine.cpus,
		memoryMiB: "memory.max" in system.cgroupLimits ? memoryMiB : machine.memoryMiB,
	};
}

/** Whose machine it is: a container that has joined one has none itself. */
function findMachine(store: ContainerStore, { kind, name }: JoinRequest): Joins {
	if (kind === "pod") return { kind, id: findPod(name).id };
	const { id, config } = store.find(name);
	return config.joins ?? { kind, id };
}

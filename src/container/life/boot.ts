/*
 * The machine of a stored container: its image, its writable layer and its kernel, as config.json names them.
 */
import type { AgentBroker } from "../../agent/broker.ts";
import { ignore } from "../../base/errors.ts";
import type { Faults } from "../../base/faults.ts";
import type { Observer } from "../../base/observer.ts";
import { type Mark, Timeline } from "../../base/timeline.ts";
import type { Machine } from "../../machine/machine.ts";
import { openRootfs } from "../image/rootfs.ts";
import { ImageStore } from "../image/store.ts";
import type { WaitingMachine } from "../pool/waiting-machine.ts";
import { createMachine, restoreMachine } from "../run.ts";
import type { SetupStep, SystemOptions } from "../setup-steps.ts";
import type { StartableMachine } from "../template/start.ts";
import type { TemplateShape } from "../template/store.ts";
import { mountShares } from "../volume/mount.ts";
import { containerKernel } from "./kernel.ts";
import { MachineNetworks } from "./machine-networks.ts";
import type { MemberMachine } from "./member-devices.ts";
import { observation } from "./observed.ts";
import type { StoredContainer } from "./store.ts";
import { prepareWritableLayer } from "./writable-layer.ts";

/** A machine that is ready to start. */
export interface BootedContainer extends StartableMachine {
	/** The same machine, as `pause` needs it. */
	machine: Pick<Machine, "pause" | "resume"> & Partial<MemberMachine & Pick<Machine, "snapshot" | "balloon">>;
	/** What the agent does before the container's process can run. */
	steps: readonly SetupStep[];
	/** Of its agent, if that was greeted before. */
	broker?: AgentBroker | undefined;
	/** Its networks, which containers that join have with it. */
	networks?: MachineNetworks | undefined;
	/** What goes wrong in it on purpose. */
	faults?: Faults | undefined;
	/** What the container has written lives on. */
	keeps?: boolean | undefined;
	/** What its making has reached when. */
	marks?: readonly Mark[] | undefined;
	/** The template that it would have been made of. */
	lacksTemplate?: TemplateShape | undefined;
}

/** What one start has besides. */
export interface BootOptions {
	/** A machine of a pool. */
	waiting?: WaitingMachine | undefined;
	/** Looks on from the start. */
	observer?: Observer | undefined;
}

/**
 * @throws ImageError ERR_IMAGE_NOT_FOUND when the image has been removed; what createMachine throws
 */
export async function bootContainer(
	container: Pick<StoredContainer, "config" | "paths">,
	signal: AbortSignal,
	{ waiting, observer }: BootOptions = {},
): Promise<BootedContainer> {
	const timeline = new Timeline();
	const { config, paths } = container;
	const store = new ImageStore();
	const image = store.find(config.image.digest);
	/* A process of its own makes the file meanwhile. */
	const prepared = prepareWritableLayer(paths.writable, config.writableBytes);
	prepared.then(() => timeline.mark("disk"), ignore);
	try {
		await using rootfs = await openRootfs(store, image, { signal });
		timeline.mark("image");
		const kernel = await containerKernel(config.kernel, { signal });
		const networks = await MachineNetworks.join(config, signal);
		timeline.mark("network");
		const { configs } = networks;
		const watched = observation(config.observed);
		const machine = {
			...machineOf(container),
			...watched,
			observer,
			rootfs,
			kernel,
			...(configs === undefined ? {} : { networks: configs }),
		};
		const booted = await createMachine({ ...machine, prepared, timeline }, signal, waiting);
		return { ...booted, networks, faults: watched.faults, marks: [...timeline.marks, ...booted.machine.timeline] };
	} finally {
		/* Nothing of it goes on when the start has failed. */
		await prepared.catch(ignore);
	}
}

/** What a container's configuration says of its machine. */
function machineOf({ config, paths }: Pick<StoredContainer, "config" | "paths">) {
	const { system, privileges, hostname, cpus, memoryMiB, cmdline, consoleFile, cold = false } = config;
	return {
		...(system as SystemOptions),
		privileged: privileges.privileged,
		workdir: config.process.cwd,
		shares: mountShares(config.mounts),
		devices: config.devices ?? [],
		writable: paths.writable,
		hostname,
		cpus,
		memoryMiB,
		cold,
		...(cmdline === undefined ? {} : { cmdline }),
		...(consoleFile === undefined ? {} : { consoleFile }),
	};
}

/**
 * The machine of a container that is restored.
 *
 * @param path of the snapshot
 * @throws ImageError ERR_IMAGE_NOT_FOUND; what restoreMachine throws
 */
export async function reviveContainer(
	path: string,
	{ config, paths }: Pick<StoredContainer, "config" | "paths">,
	signal: AbortSignal,
): Promise<BootedContainer> {
	const store = new ImageStore();
	await using rootfs = await openRootfs(store, store.find(config.image.digest), { signal });
	const networks = await MachineNetworks.join(config, signal);
	const { configs } = networks;
	const shares = config.mounts.map(({ source, target, readOnly }) => ({ source, target, readOnly }));
	const { consoleFile } = config;
	const host = {
		...{ rootfs, writable: paths.writable, shares, ...observation(config.observed) },
		...(configs === undefined ? {} : { networks: configs }),
		...(consoleFile === undefined ? {} : { consoleFile }),
	};
	return { ...(await restoreMachine(path, host, signal)), networks };
}

/*
 * Where a container's process runs: a machine of its own (own-machine.ts), or one that it joins (shared-machine.ts). One
 * contract for both, so that what watches a container need not know.
 */

import type { AgentBroker } from "../../agent/broker.ts";
import type { ExecSpec } from "../../agent/exec-spec.ts";
import type { Timeline } from "../../base/timeline.ts";
import type { Machine } from "../../machine/machine.ts";
import type { SnapshotOptions } from "../../snapshot/write.ts";
import type { Container } from "../container.ts";
import type { GuestMemoryUse } from "./control.ts";
import type { DebugOptions } from "./debugged.ts";
import type { MachineNetworks } from "./machine-networks.ts";
import type { Notes } from "./notes.ts";
import type { StoredContainer } from "./store.ts";

/** One start of a container's process. */
export interface ProcessStart {
	/** Called when everything is ready for the process. */
	process: () => ExecSpec;
	/** Resolves when the process may start: somebody has attached, if one has to. */
	awaited: Promise<void>;
	/** Ends the start, and the container. */
	signal: AbortSignal;
	/** Told, in one line, of what went wrong and does not matter to the container. */
	warn: (message: string) => void;
	/** Somebody wants to know how long each phase takes. */
	timeline?: Timeline | undefined;
	/** Somebody wants to be told of the machine. */
	notes?: Notes | undefined;
	/** Somebody wants to debug the machine. */
	debug?: DebugOptions | undefined;
}

/** A snapshot to take. */
export interface SnapshotRequest extends Pick<SnapshotOptions, "base" | "onProgress" | "signal"> {
	readonly path: string;
	/** It is paused, and stays so. */
	readonly isPaused: boolean;
}

export interface ContainerHost {
	/** Its networks, when they are its own, while it runs. */
	readonly networks?: MachineNetworks | undefined;
	/** The container's own, from before its start on; undefined where it has joined another's. */
	readonly machine?: Machine | undefined;
	/** The last lines of that machine's console. */
	consoleTail?(): string;
	/** Clients of the machine's agent; undefined while there is no machine. */
	readonly broker: AgentBroker | undefined;
	/**
	 * Starts the process of a container, as its configuration says. Nothing is left when that fails.
	 *
	 * @throws what bootContainer and Container.start throw
	 */
	start(container: StoredContainer, start: ProcessStart): Promise<Container>;
	/**
	 * Writes a container that runs or is paused to a directory. It stands still meanwhile.
	 *
	 * @throws StateError ERR_SNAPSHOT_CONTAINER when it cannot be saved; what Machine.snapshot throws
	 */
	snapshot?(container: StoredContainer, request: SnapshotRequest): Promise<void>;
	/** How its machine's memory is used; undefined when there is none, or it has no balloon. */
	memory?(): Promise<GuestMemoryUse | undefined>;
	/** Stops all processes of a container that runs. */
	pause(container: StoredContainer): Promise<void>;
	/** Lets them go on. */
	unpause(container: StoredContainer): Promise<void>;
}

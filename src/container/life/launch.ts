/*
 * Starts a container's supervisor as a process of its own: a new one, or that of a machine that waits in a pool.
 */
import { join } from "node:path";
import type { Readable } from "node:stream";
import { launchDetached } from "../../host/detached-process.ts";
import { machinesWait } from "../pool/paths.ts";
import type { DebugOptions } from "./debugged.ts";
import type { NoteOptions } from "./notes.ts";
import type { StoredContainer } from "./store.ts";

export interface LaunchOptions {
	/** The process waits for somebody to attach. */
	awaitAttach?: boolean;
	/** How long each phase takes is told in its state. */
	timings?: boolean;
	/** What the supervisor says of the machine, until the first run of the process has ended; nothing when missing. */
	notes?: (NoteOptions & { follow: (stream: Readable) => void }) | undefined;
	/** Lets debuggers at the machine of the first run, of which the supervisor says where they can. */
	debug?: DebugOptions | undefined;
	/** Absolute path of a snapshot that the container goes on from. */
	revived?: string;
}

/** A supervisor on its way. */
export interface Launch {
	/** Resolves when the container runs. @throws RemoteError why it does not; HostError ERR_CONTAINER_FAILED */
	readonly running: Promise<void>;
	/** Resolves when the supervisor has the container and listens, if it says so. */
	readonly begun?: Promise<void> | undefined;
}

/** Starts the supervisor of a container. */
export function launchSupervisor(container: StoredContainer, options: LaunchOptions = {}): Launch {
	let onBegun!: () => void;
	const begun = new Promise<void>((resolve) => {
		onBegun = resolve;
	});
	return { running: supervise(container, options, onBegun), begun };
}

async function supervise(
	container: StoredContainer,
	{ awaitAttach = false, timings = false, notes, debug, revived }: LaunchOptions,
	onBegun: () => void,
): Promise<void> {
	if ([revived, notes, debug].every((one) => one === undefined) && machinesWait()) {
		const { takeMachine } = await import("../pool/take.ts");
		if (await takeMachine(container, { awaitAttach, timings }, onBegun)) return;
	}
	await launchDetached({
		words: [
			...["container", "supervise", container.id],
			...(awaitAttach ? ["--await-attach"] : []),
			...(timings ? ["--timings"] : []),
			...(notes === undefined ? [] : ["--notes", JSON.stringify({ trace: notes.trace, quiet: notes.quiet })]),
			...(debug === undefined ? [] : ["--debug", JSON.stringify(debug)]),
			...(revived === undefined ? [] : ["--revive", revived]),
		],
		log: join(container.paths.directory, "supervisor.log"),
		withoutTls: true,
		attempt: "Cannot start the container: its supervisor",
		code: "ERR_CONTAINER_FAILED",
		onBegun,
		onChannel: notes?.follow,
	});
}

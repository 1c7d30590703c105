/*
 * Asks a machine for a file of it, a snapshot or a core dump, with a progress bar; an interrupt gives it up.
 */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { StateError } from "../base/errors.ts";
import { ContainerStore, type StoredContainer } from "../container/life/store.ts";
import { askMachine, type DumpRequest, type SnapshotRequest } from "../machine/control.ts";
import { untilInterrupted } from "./interrupt.ts";
import { withProgress } from "./progress-bar.ts";

/** How often a file that is being written is asked how far it is. */
const PROGRESS_MS = 200;

/**
 * @param what "take a snapshot"
 * @param control the machine's socket
 * @throws what `askMachine` throws
 */
export async function askForFile(what: string, control: string, request: SnapshotRequest | DumpRequest): Promise<void> {
	const { path } = request;
	await untilInterrupted(what, (signal) =>
		withProgress(what.replace(/^take/, "taking").replace(/^write/, "writing"), async ({ onProgress }) => {
			const cancel = () => void askMachine(control, { do: "cancel", path }).catch(() => undefined);
			signal.addEventListener("abort", cancel, { once: true });
			const look = async () => {
				const { progress } = await askMachine(control, { do: "progress", path }).catch(() => ({ progress: undefined }));
				if (progress !== undefined) onProgress?.(...progress);
			};
			const timer = onProgress === undefined ? undefined : setInterval(() => void look(), PROGRESS_MS);
			try {
				await askMachine(control, request);
			} catch (error) {
				signal.throwIfAborted();
				throw error;
			} finally {
				clearInterval(timer);
			}
		}),
	);
}

/**
 * The socket of a container, or the one that was named.
 *
 * @param what is to be done, for the message: "take a snapshot of"
 * @param early a machine that does not run yet will do
 * @throws HostError ERR_CONTAINER_NOT_FOUND, StateError ERR_CONTAINER_NOT_RUNNING
 */
export function controlOf(word: string, what: string, early = false): string {
	const container = containerOf(word);
	if (container === undefined) return resolve(word);
	const { status } = container.state();
	if (status === "running" || status === "paused" || (early && container.isSupervised()))
		return container.paths.control;
	const message = `Cannot ${what} container ${container.shortId}: it is ${status}`;
	throw new StateError("ERR_CONTAINER_NOT_RUNNING", message, { hint: `Run tsvmm start ${container.shortId}` });
}

/** The container of that name; undefined when it is the path of a socket. @throws HostError ERR_CONTAINER_NOT_FOUND */
export function containerOf(word: string): StoredContainer | undefined {
	const isSocket = word.includes("/") || statSync(word, { throwIfNoEntry: false })?.isSocket() === true;
	return isSocket ? undefined : new ContainerStore().find(word);
}

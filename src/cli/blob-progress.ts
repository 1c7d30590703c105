/*
 * A progress bar on stderr for each current blob, if stderr is a terminal.
 */
import type { MultiBar, SingleBar } from "cli-progress";
import type { BlobProgress } from "../container/registry/transfer.ts";
import { size } from "./units.ts";

/** Docker's names of the states. */
const WORDS = {
	pull: { waiting: "Waiting", present: "Already exists", sent: "Downloading", done: "Download complete" },
	push: { waiting: "Waiting", present: "Layer already exists", sent: "Pushing", done: "Pushed" },
};

/**
 * Runs `work`, which reports the progress of each blob.
 *
 * @param what chooses the words; undefined shows nothing
 */
export async function withBlobProgress<T>(
	what: "pull" | "push" | undefined,
	work: (onProgress?: (progress: BlobProgress) => void) => Promise<T>,
): Promise<T> {
	if (what === undefined || !process.stderr.isTTY) return work();
	const { MultiBar, Presets } = await import("cli-progress");
	const format = "{id}: {state} {bar} {amount}";
	const options = { format, stream: process.stderr, hideCursor: null, clearOnComplete: false, barsize: 30 };
	const bars = new MultiBar(options, Presets.shades_classic);
	const shown = new Map<string, SingleBar>();
	try {
		return await work((progress) => show(bars, shown, progress, WORDS[what]));
	} finally {
		bars.update();
		bars.stop();
	}
}

function show(
	bars: MultiBar,
	shown: Map<string, SingleBar>,
	{ digest, state, doneBytes, totalBytes }: BlobProgress,
	words: Readonly<Record<BlobProgress["state"], string>>,
): void {
	const amount = state === "sent" ? `${size(doneBytes)}/${size(totalBytes)}` : size(totalBytes);
	const word = words[state].padEnd(20);
	const payload = { id: digest.slice("sha256:".length, "sha256:".length + 12), state: word, amount };
	const bar = shown.get(digest);
	if (bar === undefined) shown.set(digest, bars.create(Math.max(1, totalBytes), doneBytes, payload));
	else bar.update(state === "sent" ? doneBytes : Math.max(1, totalBytes), payload);
}

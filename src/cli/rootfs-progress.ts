/*
 * A progress bar on stderr while a root file system is built, if somebody is looking. Loaded only when something is
 * built, which is once per image.
 */
import type { RootfsOptions } from "../container/image/rootfs.ts";

/** Builds shorter than this show nothing. */
const PATIENCE_MS = 300;

/** Runs `work` with a bar under way; without a terminal it just runs. */
export async function withProgress<T>(label: string, work: (options: RootfsOptions) => Promise<T>): Promise<T> {
	if (!process.stderr.isTTY) return work({});
	const { SingleBar, Presets } = await import("cli-progress");
	const bar = new SingleBar(
		{ format: `${label} {bar} {percentage}%`, stream: process.stderr, clearOnComplete: true, hideCursor: null },
		Presets.shades_classic,
	);
	const began = performance.now();
	let shown = false;
	try {
		return await work({
			onProgress: (done, total) => {
				if (!shown && performance.now() - began > PATIENCE_MS) {
					bar.start(total, done);
					shown = true;
				}
				if (shown) bar.update(done);
			},
		});
	} finally {
		if (shown) bar.stop();
	}
}

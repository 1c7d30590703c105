/*
 * A progress bar on stderr while a root file system is built, if stderr is a terminal. It is loaded only for a build,
 * which is once per image.
 */
import type { RootfsOptions } from "../container/image/rootfs.ts";

/** A shorter build shows no bar. */
const PATIENCE_MS = 300;

/** Runs `work` and shows a bar, if there is a terminal. */
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

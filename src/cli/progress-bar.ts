/*
 * A progress bar on stderr for work that takes long, if stderr is a terminal.
 */

/** Shorter work shows no bar. */
const PATIENCE_MS = 300;

/** What the work tells: how much is done, and all of it. */
interface Progress {
	onProgress?: (done: number, total: number) => void;
}

/** Runs `work` and shows a bar, if there is a terminal. */
export async function withProgress<T>(label: string, work: (progress: Progress) => Promise<T>): Promise<T> {
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

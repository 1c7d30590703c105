/*
 * Brings a lab up and shows progress. On a terminal a line counts the seconds, and is erased when the lab is up. Two
 * things are reported everywhere, in a line each: that the lab was broken and has been restarted, and that it can see
 * all files of this machine.
 */
import { Lab, type LabOptions } from "./lab.ts";

const WHAT = { building: "building the lab", restoring: "starting the lab", ready: "starting the lab" } as const;

/** Lab.up with progress on stderr, unless `quiet`. */
export async function upWithProgress(options: LabOptions, quiet: boolean): Promise<{ lab: Lab; close: () => void }> {
	const shown = process.stderr.isTTY === true && !quiet;
	let printed = false;
	let broken: string | undefined;
	let unconfined: string | undefined;
	try {
		const lab = await Lab.up({
			...options,
			onRestart: (what) => {
				broken = what;
			},
			onUnconfined: (why) => {
				unconfined = why;
			},
			onProgress: (record, elapsedMs) => {
				if (!shown || elapsedMs < 1000) return;
				printed = true;
				process.stderr.write(`\r\x1b[K${WHAT[record?.state ?? "building"]}: ${Math.floor(elapsedMs / 1000)} s`);
			},
		});
		if (printed) process.stderr.write("\r\x1b[K");
		printed = false;
		if (broken !== undefined && !quiet) process.stderr.write(`tsvmm: the lab ${broken}; restarted\n`);
		if (unconfined !== undefined && !quiet) {
			process.stderr.write(`tsvmm: the lab sees all files, because this machine refuses namespaces: ${unconfined}\n`);
		}
		return { lab, close: () => lab.close() };
	} finally {
		if (printed) process.stderr.write("\r\x1b[K");
	}
}

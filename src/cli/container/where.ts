/*
 * Where a command finds a host's containers: here, or, where this machine cannot run guests itself, in the lab. A lab
 * that is down runs no container, so what only looks then looks here.
 */
import { needsLab, reexecInLab } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import type { Share } from "../../lab/shares.ts";
import { watchOutput } from "../output.ts";

/**
 * Runs `work`, here or, by running the whole command line again, in the lab.
 *
 * @param runs the command starts machines, so it needs the lab even when that is down
 */
export async function whereContainersAre(
	work: () => Promise<number>,
	{ runs = false, shares = [] }: { runs?: boolean; shares?: readonly Share[] } = {},
): Promise<void> {
	if (await areInLab({ runs })) {
		watchOutput();
		process.exitCode = await reexecInLab(process.argv.slice(2), { quiet: true, shares });
	} else process.exitCode = await work();
}

/** @param runs as above */
export async function areInLab({ runs }: { runs: boolean }): Promise<boolean> {
	return needsLab() && (runs || (await isLabUp()));
}

async function isLabUp(): Promise<boolean> {
	const lab = await Lab.connect().catch(() => undefined);
	lab?.close();
	return lab !== undefined;
}

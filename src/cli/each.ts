/*
 * A command on several things: each gets its turn, whatever becomes of the others, and each error is printed.
 */
import { reportError } from "./report.ts";

/** @returns 0, or the exit status of the first that failed */
export async function each<T>(things: readonly T[], work: (thing: T) => unknown): Promise<number> {
	let status = 0;
	for (const thing of things) {
		try {
			await work(thing);
		} catch (error) {
			const failed = reportError(error);
			status ||= failed;
			process.exitCode = status;
		}
	}
	return status;
}

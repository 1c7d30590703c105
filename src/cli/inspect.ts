/*
 * What the `inspect` commands of containers, images and volumes share: as with Docker, a name that is not there is an error,
 * and the others are printed all the same.
 */
import { formatValues } from "./format.ts";
import { reportError } from "./report.ts";

/**
 * Prints what is known of each name.
 *
 * @returns 0, or the exit status of the first that failed
 */
export async function inspectEach(
	names: readonly string[],
	describe: (name: string) => object | Promise<object>,
	format: string | undefined,
): Promise<number> {
	const found: object[] = [];
	let status = 0;
	for (const name of names) {
		try {
			found.push(await describe(name));
		} catch (error) {
			status ||= reportError(error);
		}
	}
	process.stdout.write(formatValues(found, format));
	return status;
}

/*
 * What the `inspect` commands of containers, images and volumes share: as with Docker, a name that is not there is an error,
 * and the others are printed all the same.
 */
import { each } from "./each.ts";
import { formatValues } from "./format.ts";

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
	const status = await each(names, async (name) => found.push(await describe(name)));
	process.stdout.write(formatValues(found, format));
	return status;
}

/*
 * What a start says on stderr although the container runs: that the template of its machine could not be used.
 */
import { printable } from "../../base/log.ts";
import type { StoredContainer } from "../../container/life/store.ts";

/** Says what went wrong at the last start, if something did. */
export function warn(container: StoredContainer): void {
	const { warning } = container.state();
	if (warning !== undefined) process.stderr.write(`tsvmm: ${printable(warning)}\n`);
}

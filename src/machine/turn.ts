/*
 * The end of a turn of the event loop.
 */

/** Resolves after all other events that are ready. */
export function turn(): Promise<void> {
	return new Promise((resolve) => {
		setImmediate(resolve);
	});
}

/*
 * The end of a turn of the event loop.
 */

/** Resolves when everything else that is ready has had its turn. */
export function turn(): Promise<void> {
	return new Promise((resolve) => {
		setImmediate(resolve);
	});
}

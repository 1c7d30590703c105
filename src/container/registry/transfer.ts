/*
 * Several blobs at once, between a registry and the store: how many, what is told meanwhile, and that the first failure
 * ends them all.
 */

/** How far a layer is on its way between a registry and the store. */
export interface BlobProgress {
	/** Of the layer as it is sent: "sha256:...". */
	readonly digest: string;
	/** present: it need not be sent; sent: bytes are still on their way; done: all of it has arrived. */
	readonly state: "waiting" | "present" | "sent" | "done";
	/** Bytes that have arrived. */
	readonly doneBytes: number;
	/** Bytes in all. */
	readonly totalBytes: number;
}

/** As many as Docker has under way. */
const AT_ONCE = 3;

/**
 * Calls `work` for each item, a few at a time; resolves when none runs any more.
 *
 * @param stop aborted with the first failure, so that the others end soon
 * @throws that failure
 */
export async function inParallel<T>(
	items: readonly T[],
	work: (item: T) => Promise<void>,
	stop: AbortController,
): Promise<void> {
	const queue = [...items];
	let failed: { error: unknown } | undefined;
	const one = async () => {
		for (let item = queue.shift(); item !== undefined && failed === undefined; item = queue.shift()) {
			try {
				await work(item);
			} catch (error) {
				failed ??= { error };
				stop.abort(error);
			}
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, one));
	if (failed !== undefined) throw failed.error;
}

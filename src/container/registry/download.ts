/*
 * A blob's bytes over a connection that may break: the next attempt goes on by Range. The length is the descriptor's:
 * what a registry sends beyond it is refused, and who writes the bytes checks the digest.
 */
import { HostError } from "../../base/errors.ts";
import type { Descriptor } from "../image/documents.ts";
import { malformed } from "../image/failure.ts";
import type { RegistryClient } from "./client.ts";
import { isBroken, isTimeout } from "./failure.ts";

/** How often in a row a connection may bring next to nothing. */
const MAX_FAILURES = 5;
const PROGRESS_BYTES = 64 * 1024;

/**
 * The bytes of a blob, in order.
 *
 * @param attempt for messages: "pull quay.io/org/app:1"
 * @param onBytes told after each chunk how many bytes are there
 * @throws HostError as RegistryClient; ImageError ERR_IMAGE_MALFORMED when there are more bytes than there should be
 */
export async function* download(
	client: RegistryClient,
	{ digest, size }: Pick<Descriptor, "digest" | "size">,
	attempt: string,
	onBytes: (done: number) => void = () => undefined,
): AsyncGenerator<Uint8Array> {
	let done = 0;
	for (let failures = 0; done < size; ) {
		const began = done;
		const { body, start } = await client.blob(digest, done);
		try {
			let skip = done - start;
			for await (const chunk of body as AsyncIterable<Buffer>) {
				/* A registry that knows no Range sends all of it once more. */
				const rest = chunk.subarray(Math.min(skip, chunk.length));
				skip -= chunk.length - rest.length;
				if (rest.length === 0) continue;
				if (done + rest.length > size) throw malformed(`blob ${digest}`, `more than its ${size} bytes are sent`);
				done += rest.length;
				onBytes(done);
				yield rest;
				if (done === size) return;
			}
		} catch (error) {
			if (!isBroken(error) && !isTimeout(error)) throw client.failure(error);
			const moved = done - began >= PROGRESS_BYTES;
			/* Silence has lasted long already, unless it came after something. */
			if (!moved && isTimeout(error)) throw client.failure(error);
			if (!moved && failures + 1 === MAX_FAILURES) throw client.failure(error);
		}
		failures = done - began >= PROGRESS_BYTES ? 0 : failures + 1;
		if (failures === MAX_FAILURES) {
			throw new HostError(
				"ERR_REGISTRY_CONNECT",
				`Cannot ${attempt}: blob ${digest} ends after ${done} of ${size} bytes`,
			);
		}
		await client.pause(failures + 1);
	}
}

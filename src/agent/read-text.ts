/*
 * Text of a process in the guest, such as a tool's answer. A guest may send without end, so what is too much is dropped.
 */
import type { Readable } from "node:stream";

/** More than any tool prints. */
const MAX_LENGTH = 1 << 20;

/** All of a stream, up to a bound. @throws as the stream does */
export async function readText(stream: Readable): Promise<string> {
	let read = "";
	for await (const chunk of stream.setEncoding("utf8")) read += (chunk as string).slice(0, MAX_LENGTH - read.length);
	return read;
}

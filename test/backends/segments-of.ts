/* Segments for tests of backends: over ordinary memory, or over memory that has a host address as guest RAM has. */
import { Segments } from "../../src/base/segments.ts";

/** A list over a copy of `data`, cut into pieces of `pieceBytes`. */
export function segmentsOf(data: Uint8Array, pieceBytes = data.length): Segments {
	const source = { bytes: Uint8Array.from(data), hva: 0 };
	const list = new Segments();
	for (let at = 0; at < data.length; at += pieceBytes) list.add(source, at, Math.min(pieceBytes, data.length - at));
	return list;
}

export function bytesOf(list: Segments, length = list.totalBytes): Buffer {
	const out = Buffer.alloc(length);
	list.copyTo(out);
	return out;
}

/*
 * File names as strings. Linux takes any bytes but "/" and NUL for a name, and nearly all are UTF-8. One that is not
 * keeps its ASCII characters, and each other byte becomes a lone surrogate, U+DC80 to U+DCFF (as Python's
 * surrogateescape does). So every name is a string, and comes back as the bytes that it was.
 */

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const ESCAPE = 0xdc00;

/** The string for a name. */
export function decodeName(bytes: Uint8Array): string {
	try {
		return utf8.decode(bytes);
	} catch {
		return String.fromCharCode(...Array.from(bytes, (byte) => (byte < 0x80 ? byte : ESCAPE | byte)));
	}
}

/** The bytes of a name that `decodeName` made, or anybody else. */
export function encodeName(name: string): Buffer {
	/* The low byte of each unit is the byte that was escaped. */
	return Buffer.from(name, /\p{Surrogate}/u.test(name) ? "latin1" : "utf8");
}

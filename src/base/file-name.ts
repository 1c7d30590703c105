/*
 * File names as strings. On Linux a name may have any bytes but "/" and NUL, and nearly all names are UTF-8. In a name
 * that is not, each byte above ASCII becomes a lone surrogate, U+DC80 to U+DCFF (as with Python's surrogateescape). So
 * every name is a string and can be turned back into its bytes.
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

/** The bytes of a name, which need not come from `decodeName`. */
export function encodeName(name: string): Buffer {
	/* The low byte of each unit is the byte that was escaped. */
	return Buffer.from(name, /\p{Surrogate}/u.test(name) ? "latin1" : "utf8");
}

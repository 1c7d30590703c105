/*
 * Escapes text of a guest or a file for a terminal. Its control characters could move the cursor, set the title, or
 * make the terminal answer as if the user had typed.
 */

/** `text` with all control characters but newline and tab written as \xNN. */
export function printable(text: string): string {
	// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
	return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

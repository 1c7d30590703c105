/*
 * Numbers as people read them.
 */

/** @param {number} value */
export function hex(value) {
	return `0x${value.toString(16)}`;
}

/** "16 B", "4 KiB", "1.5 MiB". @param {number} bytes */
export function size(bytes) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let at = 0;
	let value = bytes;
	for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
	return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[at]}`;
}

/** "950", "12.3k", "4.56M". @param {number} value */
export function count(value) {
	if (value < 10 && !Number.isInteger(value)) return value.toFixed(1);
	if (value < 10_000) return String(Math.round(value));
	if (value < 1e6) return `${(value / 1000).toFixed(1)}k`;
	return `${(value / 1e6).toFixed(2)}M`;
}

/** "12.345 s". @param {number} ms */
export function seconds(ms) {
	return `${(ms / 1000).toFixed(3)} s`;
}

/** "85 µs", "1.2 ms". @param {number} micros */
export function duration(micros) {
	if (micros < 1000) return `${micros} µs`;
	return micros < 1e6 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1e6).toFixed(2)} s`;
}

/** The bytes of hexadecimal digits. @param {string} digits */
export function bytesOf(digits) {
	return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/*
 * Times and sizes as Docker writes them in its columns.
 */

const UNITS: [string, number][] = [
	["year", 365 * 86400],
	["month", 30 * 86400],
	["week", 7 * 86400],
	["day", 86400],
	["hour", 3600],
	["minute", 60],
	["second", 1],
];

/** "3 weeks ago"; "N/A" when the image does not say when it was made. */
export function age(created: string | undefined, nowMs = Date.now()): string {
	const then = created === undefined ? Number.NaN : Date.parse(created);
	if (Number.isNaN(then)) return "N/A";
	const seconds = Math.max(0, (nowMs - then) / 1000);
	for (const [unit, length] of UNITS) {
		const count = Math.floor(seconds / length);
		/* As in Docker: 8 days, and not 1 week. */
		if (count >= (unit === "second" || unit === "minute" || unit === "hour" || unit === "day" ? 1 : 2)) {
			return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
		}
	}
	return "just now";
}

/** Three digits and a decimal unit: "1.95MB", "294MB". */
export function size(bytes: number): string {
	let value = bytes;
	for (const unit of ["B", "kB", "MB", "GB"]) {
		if (value < 1000) return `${Number(value.toPrecision(3))}${unit}`;
		value /= 1000;
	}
	return `${Number(value.toPrecision(3))}TB`;
}

/** Four digits and a binary unit, as `docker stats` has memory: "1.5MiB", "512MiB". */
export function binarySize(bytes: number): string {
	let value = bytes;
	for (const unit of ["B", "KiB", "MiB", "GiB"]) {
		if (value < 1024) return `${Number(value.toPrecision(4))}${unit}`;
		value /= 1024;
	}
	return `${Number(value.toPrecision(4))}TiB`;
}

/** "2024-06-15 12:00:00 +0000 UTC"; "N/A" when the image does not say. */
export function timestamp(created: string | undefined): string {
	const then = created === undefined ? Number.NaN : Date.parse(created);
	if (Number.isNaN(then)) return "N/A";
	return `${new Date(then).toISOString().slice(0, 19).replace("T", " ")} +0000 UTC`;
}

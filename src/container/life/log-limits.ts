/*
 * What --log-opt says of the json-file driver: how large a log may grow, and how many files of it are kept.
 */
import { UsageError } from "../../base/errors.ts";

export interface LogLimits {
	/** Bytes at which a new file is begun; without end when missing. */
	maxBytes?: number;
	/** Files that are kept, with the one that is written. */
	maxFiles: number;
}

const UNITS: Readonly<Record<string, number>> = { "": 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };
const MOST_FILES = 1000;

/**
 * Reads the options as Docker does: { "max-size": "10m", "max-file": "3" }.
 *
 * @throws UsageError ERR_RUN_LOG_OPT
 */
export function readLogLimits(options: Readonly<Record<string, string>>): LogLimits {
	for (const name of Object.keys(options)) {
		if (name !== "max-size" && name !== "max-file") throw refused(`${name}=${options[name]}`, "it is not known");
	}
	const { "max-size": size = "-1", "max-file": files = "1" } = options;
	const [, digits = "", unit = ""] = /^(\d{1,12})([bkmg]?)b?$/i.exec(size) ?? [];
	const maxBytes = size === "-1" ? undefined : Number(digits) * UNITS[unit.toLowerCase()]!;
	if (maxBytes === 0) throw refused(`max-size=${size}`, "it is no size");
	const maxFiles = /^\d{1,4}$/.test(files) ? Number(files) : 0;
	if (maxFiles < 1 || maxFiles > MOST_FILES) throw refused(`max-file=${files}`, `1 to ${MOST_FILES} are possible`);
	if (maxBytes === undefined && maxFiles > 1) throw refused(`max-file=${files}`, "that takes a max-size");
	return { maxFiles, ...(maxBytes === undefined ? {} : { maxBytes }) };
}

function refused(option: string, found: string): UsageError {
	return new UsageError("ERR_RUN_LOG_OPT", `Cannot use log option "${option}": ${found}`, {
		hint: "Use max-size=SIZE, as in 10m, and max-file=COUNT",
	});
}

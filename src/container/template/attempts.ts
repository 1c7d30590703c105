/*
 * What has come of making templates in the background, so that one that fails is not made again and again. A file stands
 * for each attempt, empty while it goes on, and with the reason after a failure. A template that is there has none.
 *
 *     cacheDirectory()/templates/KEY.attempt
 */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errnoName } from "../../base/errors.ts";
import { templatesDirectory } from "./store.ts";

const ENDING = ".attempt";
const HOUR_MS = 3600_000;
/** How soon one is made again that has failed. */
const AFTER_FAILURE_MS = 24 * HOUR_MS;
/** The same for one whose process went without a word, as when the host went down. */
const AFTER_SILENCE_MS = HOUR_MS;

/** A template that could not be made, or not be used. */
export interface FailedAttempt {
	readonly key: string;
	/** One line. */
	readonly reason: string;
}

/**
 * Notes that a template is about to be made. Of several processes one gets true.
 *
 * @param path of the template
 */
export async function beginAttempt(path: string, nowMs = Date.now()): Promise<boolean> {
	const file = path + ENDING;
	await mkdir(dirname(path), { recursive: true });
	const found = statSync(file, { throwIfNoEntry: false });
	if (found !== undefined) {
		const pauseMs = found.size > 0 ? AFTER_FAILURE_MS : AFTER_SILENCE_MS;
		if (nowMs - found.mtimeMs < pauseMs) return false;
		rmSync(file, { force: true });
	}
	try {
		writeFileSync(file, "", { flag: "wx" });
		return true;
	} catch (error) {
		if (errnoName(error) === "EEXIST") return false;
		throw error;
	}
}

/** Notes why a template cannot be made or used. */
export function failAttempt(path: string, reason: string): void {
	writeFileSync(path + ENDING, `${reason}\n`);
}

/** The template is there, or its maker was told to end: it may be made at any time. */
export function forgetAttempt(path: string): void {
	rmSync(path + ENDING, { force: true });
}

/** Those that have failed. */
export function failedAttempts(): FailedAttempt[] {
	const directory = templatesDirectory();
	const files = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith(ENDING)) : [];
	return files.flatMap((name) => {
		const reason = readFileSync(join(directory, name), "utf8").trim();
		return reason === "" ? [] : [{ key: basename(name, ENDING), reason }];
	});
}

/*
 * SHA-256 of files that seldom change, written down with what tells that a file is still the one that was read: its device,
 * inode, size and times. Such a file is not read again. Whatever writes to a file changes its ctime, which no program sets.
 */
import { createHash } from "node:crypto";
import { type BigIntStats, readFileSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { ignore } from "../base/errors.ts";
import { writeDurably } from "./durable-file.ts";

/** So many are kept, those that were asked for last. */
const MOST = 16;
/** A file that has changed less than so long ago may change once more at the same time, as clocks of file systems tick. */
const TICK_NS = 2_000_000_000n;
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * The digests of some files, in hexadecimal.
 *
 * @param paths of the files
 * @param store the file that has what is known; nothing is known when it is missing, damaged or cannot be written
 * @throws what reading one of them says
 */
export async function knownDigests(paths: readonly string[], store: string): Promise<string[]> {
	const known = readKnown(store);
	const found: [identity: string, digest: string][] = [];
	const digests: string[] = [];
	let learned = false;
	for (const path of paths) {
		const before = statSync(path, { bigint: true });
		const identity = identityOf(before);
		const old = known.get(identity);
		const digest =
			old ??
			createHash("sha256")
				.update(await readFile(path))
				.digest("hex");
		digests.push(digest);
		if (old === undefined) {
			if (identity !== identityOf(statSync(path, { bigint: true })) || isYoung(before)) continue;
			learned = true;
		}
		found.push([identity, digest]);
	}
	if (learned) {
		const newest = new Map([...found, ...known]);
		const text = JSON.stringify(Object.fromEntries([...newest].slice(0, MOST)));
		await writeDurably(store, Buffer.from(`${text}\n`)).catch(ignore);
	}
	return digests;
}

function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
	return [dev, ino, size, mtimeNs, ctimeNs].join("-");
}

function isYoung({ ctimeNs }: BigIntStats): boolean {
	return BigInt(Date.now()) * 1_000_000n - ctimeNs < TICK_NS;
}

function readKnown(store: string): Map<string, string> {
	try {
		const entries = Object.entries(JSON.parse(readFileSync(store, "utf8")) as Record<string, unknown>);
		return new Map(entries.filter((entry): entry is [string, string] => DIGEST.test(String(entry[1]))));
	} catch {
		return new Map();
	}
}

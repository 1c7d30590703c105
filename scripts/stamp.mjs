/*
 * Building only what has changed: a stamp beside the output holds the digest of the sources that it was built from.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { root } from "./steps.mjs";

/** Paths, relative to the root, of the files below `directory` whose names match. */
export function filesBelow(directory, pattern) {
	return readdirSync(join(root, directory), { recursive: true })
		.filter((name) => pattern.test(name))
		.map((name) => join(directory, name));
}

/**
 * Calls `build` unless the stamp says that `output` was made from `sources` as they are now. All paths are relative to
 * the root; `more` is whatever else goes into the output.
 */
export async function buildWhenChanged({ stamp, output, sources, more = "" }, build) {
	const hash = createHash("sha256").update(more);
	for (const name of [...sources].sort()) {
		hash
			.update(name)
			.update("\0")
			.update(readFileSync(join(root, name)));
	}
	const wanted = hash.digest("hex");
	const path = join(root, stamp);
	if (existsSync(join(root, output)) && existsSync(path) && readFileSync(path, "utf8") === wanted) return;
	await build();
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(`${path}.${process.pid}`, wanted);
	renameSync(`${path}.${process.pid}`, path);
}

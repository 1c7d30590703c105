/*
 * The version of this package, from its manifest or from the bundle.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "./native.ts";

/* Set by scripts/bundle.mjs. */
declare const TSVMM_VERSION: string | undefined;

/** "0.1.0" */
export function tsvmmVersion(): string {
	if (typeof TSVMM_VERSION === "string") return TSVMM_VERSION;
	return JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")).version;
}

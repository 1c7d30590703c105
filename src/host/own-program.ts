/*
 * How to start this program once more, as a process of its own: the bundle, or the sources through tsx.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "./native.ts";

/** The words after Node's own path that run this tsvmm; the command's words follow them. */
export function ownProgram(): string[] {
	if (!import.meta.url.endsWith(".ts")) return ["--", join(packageRoot(), "dist/tsvmm.js")];
	const tsx = createRequire(import.meta.url).resolve("tsx");
	return ["--import", pathToFileURL(tsx).href, "--", join(packageRoot(), "src/main.ts")];
}

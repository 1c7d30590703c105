#!/usr/bin/env -S node --
/*
 * dist/tsvmm.js: runs a bundle of tsvmm with V8's code beside it (host/code-cache.ts): that of main.ts, or of supervisor.ts.
 *
 *     main.cjs:   (function (require, bundleUrl) { ... })    // 64 hexadecimal digits that name it
 *
 * It is built as CommonJS, which Node starts with sooner than with an ES module. (The "--" above keeps Node from reading
 * options for a container, such as --env-file.)
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { compileBundle } from "./host/code-cache.ts";
import { requireLate } from "./host/late-modules.ts";

/** Commands whose start users wait for, with the profile of their code. The others share one. */
const PROFILES: Readonly<Record<string, string>> = {
	boot: "boot",
	create: "run",
	exec: "exec",
	oci: "oci",
	run: "run",
	shim: "shim",
	start: "run",
};

function chosen([first = "", ...more]: readonly string[]): { bundle: string; profile: string } {
	if (first === "container" && more[0] === "supervise") return { bundle: "supervisor.cjs", profile: "supervisor" };
	if (first === "oci" && more.includes("supervise")) return { bundle: "main.cjs", profile: "oci-supervisor" };
	return { bundle: "main.cjs", profile: (Object.hasOwn(PROFILES, first) && PROFILES[first]) || "main" };
}

const { bundle, profile } = chosen(process.argv.slice(2));
compileBundle(__dirname, bundle, profile)(requireLate(require), pathToFileURL(join(__dirname, bundle)).href);

#!/usr/bin/env -S node --
/*
 * dist/tsvmm.js: runs main.ts, or supervisor.ts, out of their bundles (host/parts.ts).
 *
 * It is built as CommonJS, which Node starts with sooner than with an ES module. (The "--" above keeps Node from reading
 * options for a container, such as --env-file.)
 */
import { requireLate } from "./host/late-modules.ts";
import { partLoader } from "./host/parts.ts";

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

function chosen([first = "", ...more]: readonly string[]): { part: string; profile: string } {
	if (first === "container" && more[0] === "supervise") return { part: "machine:supervisor", profile: "supervisor" };
	if (first === "oci" && more.includes("supervise")) return { part: "main:main", profile: "oci-supervisor" };
	return { part: "main:main", profile: (Object.hasOwn(PROFILES, first) && PROFILES[first]) || "main" };
}

const { part, profile } = chosen(process.argv.slice(2));
partLoader(__dirname, profile, requireLate(require))(part);

#!/usr/bin/env -S node --
/*
 * dist/tsvmm.js: runs the bundle of main.ts (dist/main.cjs) with V8's code cache beside it, so that Node need not compile
 * it at each start. A cache of another bundle or of another Node is not used: then Node compiles as ever.
 *
 *     main.cjs:   (function (require, bundleUrl) { ... })    // 64 hexadecimal digits that name it
 *     main.cache: the same digits, then what scripts/code-cache.mjs got from V8
 *
 * (The "--" above keeps Node from reading options for a container, such as --env-file.)
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Script } from "node:vm";

const NAME_BYTES = 64;

const url = new URL("./main.cjs", import.meta.url);
/* The bundle is ASCII. */
const source = readFileSync(url, "latin1");

function readCache(): Buffer | undefined {
	try {
		const cache = readFileSync(new URL("./main.cache", import.meta.url));
		const name = cache.subarray(0, NAME_BYTES).toString("latin1");
		return source.endsWith(name) ? cache.subarray(NAME_BYTES) : undefined;
	} catch {
		return undefined;
	}
}

const cachedData = readCache();
const script = new Script(source, { filename: url.pathname, ...(cachedData === undefined ? {} : { cachedData }) });
script.runInThisContext()(createRequire(url), url.href);

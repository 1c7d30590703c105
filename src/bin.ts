#!/usr/bin/env -S node --
/*
 * dist/tsvmm.js: runs the bundle of main.ts (dist/main.cjs) with V8's code cache beside it, so that Node need not compile
 * it at each start. A cache of another bundle or of another Node is not used: then Node compiles as ever.
 *
 *     main.cjs:   (function (require, bundleUrl) { ... })    // 64 hexadecimal digits that name it
 *     main.cache: the same digits, then what scripts/code-cache.mjs got from V8
 *
 * It is built as CommonJS, which Node starts with sooner than with an ES module. (The "--" above keeps Node from reading options for a container, such as --env-file.)
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Script } from "node:vm";

const NAME_BYTES = 64;

const filename = join(__dirname, "main.cjs");
/* The bundle is ASCII. */
const source = readFileSync(filename, "latin1");

function readCache(): Buffer | undefined {
	try {
		const cache = readFileSync(join(__dirname, "main.cache"));
		const name = cache.subarray(0, NAME_BYTES).toString("latin1");
		return source.endsWith(name) ? cache.subarray(NAME_BYTES) : undefined;
	} catch {
		return undefined;
	}
}

const cachedData = readCache();
const script = new Script(source, { filename, ...(cachedData === undefined ? {} : { cachedData }) });
script.runInThisContext()(require, pathToFileURL(filename).href);

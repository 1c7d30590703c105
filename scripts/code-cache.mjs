/*
 * Makes V8's code cache of dist/main.cjs: node scripts/code-cache.mjs DIRECTORY NAME
 *
 * It runs commands that load each part of tsvmm, one after the other, and then asks V8 for the code of all functions that
 * it has compiled. Nothing that they print is of interest.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Script } from "node:vm";

const [directory, name] = process.argv.slice(2);
const commands = [["manual"], ["ps"], ["container", "supervise", "none"]];

const filename = resolve(directory, "main.cjs");
const script = new Script(readFileSync(filename, "latin1"), { filename });
const url = pathToFileURL(filename);
const scratch = mkdtempSync(join(tmpdir(), "tsvmm-"));
process.env.TSVMM_STATE = scratch;
for (const stream of [process.stdout, process.stderr]) {
	stream.write = (...args) => {
		const done = args.at(-1);
		if (typeof done === "function") setImmediate(done);
		return true;
	};
}

function save() {
	writeFileSync(join(directory, "main.cache"), Buffer.concat([Buffer.from(name), script.createCachedData()]));
	rmSync(scratch, { recursive: true });
}

function runNext() {
	const command = commands.shift();
	if (command === undefined) {
		process.off("beforeExit", next);
		process.exitCode = 0;
		save();
		return;
	}
	process.argv.splice(2, Number.POSITIVE_INFINITY, ...command);
	script.runInThisContext()(createRequire(url), url.href);
}

/* When a command has ended, nothing is left to do; so Node asks, and the next one begins. */
const next = () => setImmediate(runNext);
process.on("beforeExit", next);

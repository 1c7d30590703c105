/*
 * Makes V8's code of the bundles (src/host/code-cache.ts): node scripts/code-cache.mjs DIRECTORY
 *
 * For each profile it runs commands, and then asks V8 for the code of all functions that it has compiled. Nothing that they
 * print is of interest, and they fail where they would need KVM: what comes after is in the user's code of later.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Script } from "node:vm";
import zlib from "node:zlib";
import { root } from "./steps.mjs";

/** Profiles as in src/bin.ts, with their bundles. */
const PROFILES = [
	{ profile: "main", bundle: "main.cjs", commands: [["manual"], ["ps"]] },
	{ profile: "boot", bundle: "main.cjs", commands: [["boot", "--kernel", "/none"]] },
	{ profile: "run", bundle: "main.cjs", commands: [["run", "none"]] },
	{ profile: "exec", bundle: "main.cjs", commands: [["exec", "none", "true"]] },
	{ profile: "oci", bundle: "main.cjs", commands: [["oci", "state", "none"]] },
	{ profile: "supervisor", bundle: "supervisor.cjs", commands: [["container", "supervise", "none"]] },
];
const NAME_BYTES = 64;

const [directory, wanted] = process.argv.slice(2);

/** Each in a process of its own. */
function makeAll() {
	for (const { profile } of PROFILES) {
		const scratch = mkdtempSync(join(tmpdir(), "tsvmm-"));
		const env = {
			...process.env,
			TSVMM_STATE: scratch,
			TSVMM_CACHE: scratch,
			TSVMM_RUNTIME: scratch,
			TSVMM_HOST: "direct",
		};
		const { status, stderr } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), directory, profile], {
			env,
		});
		rmSync(scratch, { recursive: true });
		if (status !== 0) throw new Error(`Cannot make the code of ${profile}: ${stderr}`);
	}
}

function make({ profile, bundle, commands }) {
	const source = readFileSync(join(directory, bundle), "latin1");
	/* Where it will be: the code has the name, and stack traces show it. */
	const filename = join(root, "dist", bundle);
	const script = new Script(source, { filename });
	const url = pathToFileURL(filename);
	for (const stream of [process.stdout, process.stderr]) {
		stream.write = (...args) => {
			const done = args.at(-1);
			if (typeof done === "function") setImmediate(done);
			return true;
		};
	}
	const left = [...commands];
	const runNext = () => {
		const command = left.shift();
		if (command === undefined) {
			process.off("beforeExit", next);
			process.exitCode = 0;
			const code = script.createCachedData();
			const header = Buffer.alloc(NAME_BYTES + 4, source.slice(-NAME_BYTES), "latin1");
			header.writeUInt32LE(zlib.crc32?.(code) ?? 0, NAME_BYTES);
			writeFileSync(join(directory, `${profile}.cache`), Buffer.concat([header, code]));
			return;
		}
		process.argv.splice(2, Number.POSITIVE_INFINITY, ...command);
		script.runInThisContext()(createRequire(url), url.href);
	};
	/* When a command has ended, nothing is left to do; so Node asks, and the next one begins. */
	const next = () => setImmediate(runNext);
	process.on("beforeExit", next);
}

if (wanted === undefined) makeAll();
else make(PROFILES.find(({ profile }) => profile === wanted));

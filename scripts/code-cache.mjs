/*
 * Makes V8's code of the bundles (src/host/code-cache.ts): node scripts/code-cache.mjs DIRECTORY
 *
 * For each profile it runs a command, and then asks V8 for the code of all functions that it has compiled. Nothing that it
 * prints is of interest, and it fails where it would need KVM: what comes after is in the user's code of later.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import zlib from "node:zlib";
import { root } from "./steps.mjs";

/** Profiles as in src/bin.ts. */
const PROFILES = {
	main: ["ps"],
	boot: ["boot", "--kernel", "/none"],
	run: ["run", "none"],
	exec: ["exec", "none", "true"],
	oci: ["oci", "state", "none"],
	supervisor: ["container", "supervise", "none"],
};
const NAME_BYTES = 64;

const [directory, wanted] = process.argv.slice(2);

/** Each in a process of its own. */
function makeAll() {
	for (const profile of Object.keys(PROFILES)) {
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

function make(profile) {
	const scripts = [];
	vm.Script = class extends vm.Script {
		constructor(source, { filename }) {
			/* Where it will be: the code has the name, and stack traces show it. */
			super(source, { filename: join(root, "dist", basename(filename)) });
			scripts.push({ script: this, source, bundle: basename(filename, ".cjs") });
		}
	};
	for (const stream of [process.stdout, process.stderr]) {
		stream.write = (...args) => {
			const done = args.at(-1);
			if (typeof done === "function") setImmediate(done);
			return true;
		};
	}
	process.once("beforeExit", () => {
		for (const { script, source, bundle } of scripts) {
			const code = script.createCachedData();
			const header = Buffer.alloc(NAME_BYTES + 4, source.slice(-NAME_BYTES), "latin1");
			header.writeUInt32LE(zlib.crc32?.(code) ?? 0, NAME_BYTES);
			writeFileSync(join(directory, `${profile}-${bundle}.cache`), Buffer.concat([header, code]));
		}
		/* The user's is not wanted. */
		process.removeAllListeners("exit");
		process.exitCode = 0;
	});
	process.argv.splice(2, Number.POSITIVE_INFINITY, ...PROFILES[profile]);
	createRequire(import.meta.url)(resolve(directory, "tsvmm.js"));
}

if (wanted === undefined) makeAll();
else make(wanted);

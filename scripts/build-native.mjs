/*
 * Builds the native helper into prebuilds/linux-ARCH/, where node-gyp-build finds it. The package has it, too. (Where
 * the package meets a host on which that binary does not load, its install script builds the same binding.gyp.) Does
 * nothing when the sources are those of the last build (N-API: one binary serves every Node). Several builds at once
 * are harmless: each works in a directory of its own and the result is moved into place.
 *
 * The Node headers come from the installation that runs this script when it has them (Debian and the official
 * archives do); otherwise node-gyp downloads them.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buildWhenChanged, filesBelow } from "./stamp.mjs";
import { execute, main, root, StepError, say } from "./steps.mjs";

const prebuilds = `prebuilds/linux-${process.arch}`;
/* N-API binaries of a C library carry its name, so that a musl one can lie beside it. */
const output = `${prebuilds}/tsvmm.glibc.node`;
const sources = ["binding.gyp", ...filesBelow("native", /\.[ch]$/)];

async function build() {
	const work = mkdtempSync(join(tmpdir(), "tsvmm-native-"));
	try {
		for (const name of sources) cpSync(join(root, name), join(work, name));
		const prefix = dirname(dirname(process.execPath));
		const headers = existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
		const gyp = createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
		const args = [gyp, "rebuild", "--directory", work, ...headers];
		const { status, output: said } = await execute(process.execPath, args, { quiet: true });
		if (status !== 0) {
			process.stderr.write(said);
			throw new StepError("Cannot build the native helper: node-gyp failed (it needs gcc, make and python3)");
		}
		mkdirSync(join(root, prebuilds), { recursive: true });
		const unique = join(root, `${output}.${process.pid}`);
		cpSync(join(work, "build/Release/tsvmm.node"), unique);
		renameSync(unique, join(root, output));
		say("build-native", `built ${output}`);
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
}

await main("build-native", () => buildWhenChanged({ stamp: `${prebuilds}/sources.sha256`, output, sources }, build));

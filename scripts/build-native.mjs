/*
 * Builds the native helper into prebuilds/linux-ARCH/, where node-gyp-build finds it and whence it goes into the package.
 * (Where the package meets a host on which that binary does not load, its install script builds the same binding.gyp.)
 * Does nothing when the sources are those of the last build (N-API: one binary serves every Node). Several builds at once are harmless: each works
 * in a folder of its own and the result is moved into place.
 *
 * The Node headers come from the installation that runs this script when it has them (Debian and the official
 * archives do); otherwise node-gyp downloads them.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
	cpSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const outDir = join(root, "prebuilds", `linux-${process.arch}`);
/* N-API binaries of a C library carry its name, so that a musl one can lie beside it. */
const output = join(outDir, "tsvmm.glibc.node");
const stamp = join(outDir, "sources.sha256");

const sources = ["binding.gyp", ...readdirSync(join(root, "native")).map((name) => join("native", name))].sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(name).update(readFileSync(join(root, name)));
const digest = hash.digest("hex");

if (!existsSync(output) || !existsSync(stamp) || readFileSync(stamp, "utf8") !== digest) build();

function build() {
	const work = mkdtempSync(join(tmpdir(), "tsvmm-native-"));
	try {
		for (const name of sources) cpSync(join(root, name), join(work, name));
		const prefix = dirname(dirname(process.execPath));
		const headers = existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
		const gyp = createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
		try {
			execFileSync(process.execPath, [gyp, "rebuild", "--directory", work, ...headers], {
				stdio: ["ignore", "pipe", "pipe"],
				encoding: "utf8",
			});
		} catch (error) {
			process.stderr.write(`${error.stdout ?? ""}${error.stderr ?? ""}`);
			throw new Error(`Cannot build the native helper: node-gyp failed (it needs gcc, make and python3)`, {
				cause: error,
			});
		}
		mkdirSync(outDir, { recursive: true });
		const unique = `${output}.${process.pid}`;
		cpSync(join(work, "build/Release/tsvmm.node"), unique);
		renameSync(unique, output);
		writeFileSync(`${stamp}.${process.pid}`, digest);
		renameSync(`${stamp}.${process.pid}`, stamp);
		process.stderr.write(`built ${output}\n`);
	} finally {
		rmSync(work, { recursive: true, force: true });
	}
}

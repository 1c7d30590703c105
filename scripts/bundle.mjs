/*
 * Bundles the command line into dist/tsvmm.js: one file starts much faster than a hundred, above all in the lab. The
 * native helper, koffi and node-gyp-build stay outside, because they load binaries beside them. Does nothing when no
 * source has changed.
 */
import { createHash } from "node:crypto";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { main, root, StepError, say } from "./steps.mjs";

const dist = join(root, "dist");
const stamp = join(dist, "sources.sha256");

function digest() {
	const hash = createHash("sha256");
	const sources = readdirSync(join(root, "src"), { recursive: true })
		.filter((name) => name.endsWith(".ts"))
		.map((name) => join("src", name))
		.sort();
	for (const name of ["scripts/bundle.mjs", "package-lock.json", ...sources]) {
		hash
			.update(name)
			.update("\0")
			.update(readFileSync(join(root, name)));
	}
	return hash.digest("hex");
}

async function bundle() {
	const wanted = digest();
	const done = existsSync(stamp) && readFileSync(stamp, "utf8") === wanted;
	if (done && existsSync(join(dist, "tsvmm.js"))) return;
	const { build } = await import("esbuild");
	mkdirSync(dist, { recursive: true });
	// Built beside and moved into place: a tsvmm that starts meanwhile sees the old bundle or the new one.
	const folder = join(dist, `.new-${process.pid}`);
	try {
		await build({
			absWorkingDir: root,
			entryPoints: ["src/main.ts"],
			outfile: join(folder, "tsvmm.js"),
			bundle: true,
			platform: "node",
			format: "esm",
			target: "node20",
			external: ["koffi", "node-gyp-build", "*.node"],
			sourcemap: "linked",
			// CommonJS packages in an ES module bundle ask for require(); a name that no source uses.
			banner: {
				js: 'import { createRequire as bundleRequire } from "node:module";\nvar require = bundleRequire(import.meta.url);',
			},
			logLevel: "warning",
		}).catch((error) => {
			throw new StepError(`Cannot bundle: ${error.message.split("\n")[0]}`);
		});
		chmodSync(join(folder, "tsvmm.js"), 0o755);
		for (const name of ["tsvmm.js.map", "tsvmm.js"]) renameSync(join(folder, name), join(dist, name));
		writeFileSync(stamp, wanted);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
	say("bundle", "built dist/tsvmm.js");
}

await main("bundle", bundle);

/*
 * Builds what `import "tsvmm"` loads: dist/lib/, one ES module and one .d.ts per source file that the public entries
 * reach, comments and all, so that a debugger steps through what one can read. Does nothing when no source has changed.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildWhenChanged, filesBelow } from "./stamp.mjs";
import { main, must, root, say } from "./steps.mjs";

async function buildLibrary() {
	const dist = join(root, "dist");
	const [made, old] = [join(dist, `.new-lib-${process.pid}`), join(dist, `.old-lib-${process.pid}`)];
	mkdirSync(dist, { recursive: true });
	try {
		await must(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.build.json", "--outDir", made], { quiet: true });
		/* The programs beside it are CommonJS. */
		writeFileSync(join(made, "package.json"), '{ "type": "module" }\n');
		try {
			renameSync(join(dist, "lib"), old);
		} catch (error) {
			if (error.code !== "ENOENT") throw error;
		}
		renameSync(made, join(dist, "lib"));
	} finally {
		for (const directory of [made, old]) rmSync(directory, { recursive: true, force: true });
	}
	say("build-library", "built dist/lib");
}

await main("build-library", () =>
	buildWhenChanged(
		{
			stamp: "dist/lib.sha256",
			output: "dist/lib/index.js",
			sources: [
				"scripts/build-library.mjs",
				"tsconfig.json",
				"tsconfig.build.json",
				"package-lock.json",
				...filesBelow("src", /\.ts$/),
			],
		},
		buildLibrary,
	),
);

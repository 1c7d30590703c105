/*
 * Bundles the command line into dist/tsvmm.js, with its manual page beside it: one file starts much faster than a hundred, above all in the lab. The
 * native helper, koffi and node-gyp-build stay outside, because they load binaries beside them. So does the HTTP library,
 * which is as long as all of tsvmm and which only registries need: dist/undici.js. Does nothing when no
 * source and no commit has changed: version and commit go in as words for `tsvmm --version`.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildWhenChanged, filesBelow } from "./stamp.mjs";
import { execute, main, must, root, StepError, say } from "./steps.mjs";

const dist = join(root, "dist");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** "1a2b3c4d5e6f", with "-dirty" when the work tree differs; "unknown" outside a repository. */
async function readCommit() {
	const { status, output } = await execute("git", ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], {
		quiet: true,
	}).catch(() => ({ status: 1, output: "" }));
	return status === 0 ? output.trim() : "unknown";
}

async function bundle(commit) {
	const { build } = await import("esbuild");
	mkdirSync(dist, { recursive: true });
	/* Built beside and moved into place: a tsvmm that starts meanwhile sees the old bundle or the new one. */
	const directory = join(dist, `.new-${process.pid}`);
	const options = {
		bundle: true,
		platform: "node",
		format: "esm",
		target: "node20",
		/* CommonJS packages in an ES module bundle ask for require(); a name that no source uses. */
		banner: {
			js: 'import { createRequire as bundleRequire } from "node:module";\nvar require = bundleRequire(import.meta.url);',
		},
		logLevel: "warning",
	};
	try {
		await build({
			absWorkingDir: root,
			entryPoints: ["src/main.ts"],
			outfile: join(directory, "tsvmm.js"),
			external: ["koffi", "node-gyp-build", "*.node", "./undici.js"],
			alias: { undici: "./undici.js" },
			sourcemap: "linked",
			define: { TSVMM_VERSION: JSON.stringify(version), TSVMM_COMMIT: JSON.stringify(commit) },
			...options,
		});
		const contents = 'export { Agent, ProxyAgent, request } from "undici";';
		const outfile = join(directory, "undici.js");
		await build({ absWorkingDir: root, stdin: { contents, resolveDir: root }, outfile, minify: true, ...options });
		chmodSync(join(directory, "tsvmm.js"), 0o755);
		const manual = await must(process.execPath, [join(directory, "tsvmm.js"), "manual"], { quiet: true });
		writeFileSync(join(directory, "tsvmm.1"), manual);
		for (const name of ["tsvmm.1", "undici.js", "tsvmm.js.map", "tsvmm.js"])
			renameSync(join(directory, name), join(dist, name));
	} catch (error) {
		throw new StepError(`Cannot bundle: ${error.message.split("\n")[0]}`);
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
	say("bundle", "built dist/tsvmm.js");
}

await main("bundle", async () => {
	const commit = await readCommit();
	const sources = ["scripts/bundle.mjs", "package.json", "package-lock.json", ...filesBelow("src", /\.ts$/)];
	const files = { stamp: "dist/sources.sha256", output: "dist/tsvmm.js", sources };
	await buildWhenChanged({ ...files, more: commit }, () => bundle(commit));
});

/*
 * Bundles the command line, with its manual page beside it: few files start much faster than hundreds, above all in the
 * lab. dist/tsvmm.js (src/bin.ts) runs what is in the bundles (bundles.mjs), with V8's code beside them, dist/*.cache. The
 * native helper, koffi and node-gyp-build stay outside, because they load binaries beside them. So does the HTTP library, which
 * is as long as all of tsvmm and which only registries need: dist/undici.cjs. The inspector's page is copied as it is, to
 * dist/inspector. Does nothing when no source and no commit
 * has changed: version and commit go in as words for `tsvmm --version`.
 */
import {
	chmodSync,
	copyFileSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { buildBundles } from "./bundles.mjs";
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

/** What all parts have in common. */
const COMMON = { absWorkingDir: root, bundle: true, platform: "node", target: "node20", logLevel: "warning" };

/** Other names of the same bundle. */
const FRONTS = [
	["src/oci-bin.ts", "tsvmm-oci.js"],
	["src/shim-bin.ts", "containerd-shim-tsvmm-v2.js"],
];
const PAGE = filesBelow("src/inspector/page", /\.(html|css|js|svg)$/);
const PROGRAMS = ["tsvmm.js", ...FRONTS.map(([, name]) => name)];

/** Brings dist/inspector to what the sources have. */
function copyPage() {
	const to = join(dist, "inspector");
	mkdirSync(to, { recursive: true });
	const names = PAGE.map((path) => basename(path));
	for (const name of readdirSync(to)) if (!names.includes(name)) rmSync(join(to, name));
	for (const path of PAGE) copyFileSync(join(root, path), join(to, basename(path)));
}

async function bundle(commit) {
	const { build } = await import("esbuild");
	/* Built beside and moved into place: a tsvmm that starts meanwhile sees the old bundle or the new one. */
	const directory = join(dist, `.new-${process.pid}`);
	mkdirSync(directory, { recursive: true });
	try {
		await buildBundles(directory, COMMON, {
			TSVMM_VERSION: JSON.stringify(version),
			TSVMM_COMMIT: JSON.stringify(commit),
		});
		await build({ ...COMMON, entryPoints: ["src/bin.ts"], outfile: join(directory, "tsvmm.js"), format: "cjs" });
		for (const [source, name] of FRONTS) {
			const outfile = join(directory, name);
			await build({ ...COMMON, bundle: false, entryPoints: [source], outfile, format: "cjs" });
		}
		const contents = 'export { Agent, ProxyAgent, request } from "undici";';
		const outfile = join(directory, "undici.cjs");
		await build({ ...COMMON, stdin: { contents, resolveDir: root }, outfile, minify: true, format: "cjs" });
		/* Loads users' TypeScript; what takes the types out is as long as the HTTP library. */
		await build({
			...COMMON,
			entryPoints: ["src/user-module.ts"],
			outfile: join(directory, "user-module.cjs"),
			minify: true,
			format: "cjs",
		});
		writeFileSync(join(directory, "package.json"), '{ "type": "commonjs" }\n');
		for (const file of PROGRAMS) chmodSync(join(directory, file), 0o755);
		const env = { TSVMM_CACHE: join(directory, "cache") };
		const manual = await must(process.execPath, [join(directory, "tsvmm.js"), "manual"], { quiet: true, env });
		writeFileSync(join(directory, "tsvmm.1"), manual);
		rmSync(env.TSVMM_CACHE, { recursive: true });
		await must(process.execPath, ["scripts/code-cache.mjs", directory], { quiet: true });
		const built = readdirSync(directory);
		for (const file of [...built.filter((name) => !PROGRAMS.includes(name)), ...PROGRAMS])
			renameSync(join(directory, file), join(dist, file));
		copyPage();
	} catch (error) {
		throw new StepError(`Cannot bundle: ${error.message.split("\n")[0]}`);
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
	say("bundle", "built dist/tsvmm.js");
}

await main("bundle", async () => {
	const commit = await readCommit();
	const sources = [
		"scripts/bundle.mjs",
		"scripts/bundles.mjs",
		"scripts/code-cache.mjs",
		"package.json",
		"package-lock.json",
		...filesBelow("src", /\.ts$/),
		...PAGE,
	];
	const files = { stamp: "dist/sources.sha256", output: "dist/tsvmm.js", sources };
	await buildWhenChanged({ ...files, more: commit }, () => bundle(commit));
});

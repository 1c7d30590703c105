/*
 * `npm run check`: formatting and lint (Biome), types (tsc), layer and documentation rules (test/rules), C formatting
 * (clang-format), and that docs/api.md is what the doc comments say. All of them run, so that one call shows everything; the exit status is 1 when any has failed.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { execute, formatMs, main, root, StepError, say } from "./steps.mjs";

/** Code, not prose: tables in Markdown stay as their author has set them. */
function biomePaths() {
	const documents = readdirSync(join(root, "docs"), { recursive: true })
		.filter((name) => name.endsWith(".ts"))
		.map((name) => join("docs", name));
	const files = readdirSync(root).filter((name) => /\.(json|ts)$/.test(name) && name !== "package-lock.json");
	return ["src", "test", "scripts", "guests/images", ...documents, ...files];
}

function cSources() {
	return ["native", "guests", "test"].flatMap((directory) =>
		readdirSync(join(root, directory), { recursive: true })
			.filter((name) => /\.[ch]$/.test(name) && !/(^|\/)(out|build)\//.test(name))
			.map((name) => join(directory, name)),
	);
}

export async function check() {
	const bin = (name) => join(root, "node_modules/.bin", name);
	const checks = [
		["Biome", bin("biome"), ["check", "--error-on-warnings", ...biomePaths()]],
		["TypeScript", bin("tsc"), ["-p", "."]],
		["TypeScript of the site", bin("tsc"), ["-p", "docs/.vitepress"]],
		["the inspector's page", bin("tsc"), ["-p", "src/inspector/page"]],
		["clang-format", "clang-format", ["--dry-run", "-Werror", ...cSources()]],
		["docs/api.md", process.execPath, [join(root, "scripts/api.mjs"), "--check"]],
		["rules", bin("vitest"), ["run", "--project", "rules"]],
	];
	const failed = [];
	for (const [name, command, args] of checks) {
		const start = performance.now();
		const { status, output } = await execute(command, args, { quiet: true });
		if (status !== 0) {
			failed.push(name);
			process.stderr.write(output);
		}
		say("check", `${name} ${status === 0 ? "is clean" : "has complaints"} (${formatMs(performance.now() - start)})`);
	}
	if (failed.length > 0) throw new StepError(`not clean: ${failed.join(", ")}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main("check", check);

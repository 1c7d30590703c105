/*
 * Makes a fresh clone ready: Debian packages, npm packages, the native helper, the guest agent, dist/tsvmm.js. What is
 * up to date already is skipped, so that a second call takes no time and says nothing.
 *
 *     node scripts/setup.mjs
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { installPackages } from "./packages.mjs";
import { main, must, root, StepError, step } from "./steps.mjs";

/** Whether node_modules holds what package-lock.json says, by npm's own record of what it has installed. */
export function modulesAreFresh(directory = root) {
	const record = join(directory, "node_modules/.package-lock.json");
	if (!existsSync(record)) return false;
	const wanted = JSON.parse(readFileSync(join(directory, "package-lock.json"), "utf8")).packages;
	const present = JSON.parse(readFileSync(record, "utf8")).packages;
	return Object.entries(wanted).every(([path, { version, optional }]) => {
		if (path === "") return true;
		if (present[path] === undefined) return optional === true;
		return present[path].version === version;
	});
}

async function installModules() {
	if (modulesAreFresh()) return undefined;
	/* Without scripts: all binaries come prebuilt, and npm would build the native helper by itself, at the wrong place. */
	await must("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { quiet: true });
	return "installed npm packages";
}

/** Runs a build script of this directory; it prints something only when it had something to do. */
async function build(name, what) {
	const output = await must(process.execPath, [join("scripts", name)], { quiet: true });
	return output.trim() === "" ? undefined : `built ${what}`;
}

/** @param groups of PACKAGES; all when not given */
export async function setup(groups) {
	const [major, minor] = process.versions.node.split(".").map(Number);
	if (major < 20 || (major === 20 && minor < 11)) {
		throw new StepError(`Cannot use Node ${process.version}: 20.11 or newer is needed`);
	}
	await step("setup", () => installPackages("setup", groups));
	await step("setup", installModules);
	await step("setup", () => build("build-native.mjs", "the native helper"));
	await step("setup", () => build("build-agent.mjs", "the guest agent"));
	await step("setup", () => build("build-stand-in.mjs", "the stand-in of containers"));
	await step("setup", () => build("bundle.mjs", "dist/tsvmm.js and its manual page"));
	await step("setup", () => build("build-library.mjs", "dist/lib"));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main("setup", () => setup());

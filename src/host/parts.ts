/*
 * Loads parts of a built tsvmm (scripts/bundles.mjs), each when it is asked for and once. A bundle is read when the first of
 * its parts is asked for.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { runBundle } from "./code-cache.ts";

type Require = (name: string) => unknown;

/** "BUNDLE:NAME" -> what it exports. */
type LoadPart = (part: string) => object;

/** A part as its bundle has it: fills `exports`. */
type Part = (require: Require, load: LoadPart, exports: object, url: string) => void;

interface Bundle {
	readonly parts: Readonly<Record<string, Part>>;
	readonly url: string;
}

/**
 * @param profile of the code that V8 has for it (code-cache.ts)
 * @param require for the modules that are in no bundle
 */
export function partLoader(directory: string, profile: string, require: Require): LoadPart {
	const bundles = new Map<string, Bundle>();
	const loaded = new Map<string, object>();

	function bundleOf(name: string): Bundle {
		let bundle = bundles.get(name);
		if (bundle === undefined) {
			const url = pathToFileURL(join(directory, `${name}.cjs`)).href;
			bundle = { parts: runBundle(directory, name, profile) as Bundle["parts"], url };
			bundles.set(name, bundle);
		}
		return bundle;
	}

	function load(part: string): object {
		const known = loaded.get(part);
		if (known !== undefined) return known;
		const [bundle, name] = part.split(":") as [string, string];
		const { parts, url } = bundleOf(bundle);
		/* A TsvmmError of this file would not be one for the parts, which have a class of their own. */
		if (!Object.hasOwn(parts, name))
			throw new Error(`Cannot load ${bundle}.cjs: tsvmm has changed since it was started`);
		const exports = {};
		parts[name]!(require, load, exports, url);
		loaded.set(part, exports);
		return exports;
	}
	return load;
}

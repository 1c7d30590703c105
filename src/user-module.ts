/*
 * dist/user-module.cjs: loads a TypeScript file of the user's without a build. It is a file of its own, because the
 * bundle of the command line cannot import() (src/bin.ts), and because Node wants hooks for imports in a file.
 *
 *     import { Kvm } from "tsvmm/kvm"   ->   resolve: tsvmm:kvm   ->   load: the exports of the tsvmm that runs
 *     import "./other.ts"               ->   resolve: file:///...  ->   load: its text without types
 *
 * Types are taken out line by line, so that the lines of a stack trace are those of the file.
 */
import { readFileSync } from "node:fs";
import type { InitializeHook, LoadHook, ResolveHook } from "node:module";
import { fileURLToPath } from "node:url";
import { transform } from "sucrase";

const SCHEME = "tsvmm:";

/** For each module of the package, such as "tsvmm/kvm", the names that it exports. */
let names: ReadonlyMap<string, readonly string[]> = new Map();

/** Called by Node in the thread of the hooks. */
export const initialize: InitializeHook<typeof names> = (given) => {
	names = given;
};

/** tsvmm's modules are those of this process. A file that was asked for anew (?v=2) asks for its own files anew, too. */
export const resolve: ResolveHook = async (specifier, context, next) => {
	if (names.has(specifier)) return { url: `${SCHEME}${specifier}`, shortCircuit: true };
	const found = await next(specifier, context);
	const version = /^file:.*[^?](\?v=\d+)$/.exec(context.parentURL ?? "")?.[1];
	const isTypeScript = /^file:.*\.m?ts$/.test(found.url);
	return isTypeScript && version !== undefined ? { ...found, url: found.url + version } : found;
};

export const load: LoadHook = async (url, context, next) => {
	if (url.startsWith(SCHEME)) return { format: "module", source: reexports(url), shortCircuit: true };
	if (!/^file:[^?]*\.m?ts(\?|$)/.test(url)) return await next(url, context);
	const path = fileURLToPath(url.replace(/\?.*$/, ""));
	return { format: "module", source: withoutTypes(readFileSync(path, "utf8"), path), shortCircuit: true };
};

/** JavaScript of the same lines. @throws SyntaxError that names the file, line and column */
function withoutTypes(text: string, path: string): string {
	try {
		return transform(text, { transforms: ["typescript"], disableESTransforms: true, filePath: path }).code;
	} catch (error) {
		const { message, loc } = error as Error & { loc?: { line: number; column: number } };
		const what = message.replace(/^Error transforming .*?: /, "").replace(/ \(\d+:\d+\)$/, "");
		throw new SyntaxError(`${path}:${loc?.line ?? 1}:${loc?.column ?? 1}: ${what}`);
	}
}

function reexports(url: string): string {
	const module = url.slice(SCHEME.length);
	const lines = names.get(module)!.map((name) => `export const ${name} = module.${name};`);
	return [`const module = globalThis[Symbol.for("tsvmm.modules")].get(${JSON.stringify(module)});`, ...lines, ""].join(
		"\n",
	);
}

/** Imports a file by its URL. */
export const importUrl = (url: string): Promise<unknown> => import(url);

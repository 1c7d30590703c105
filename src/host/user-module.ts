/*
 * Imports a TypeScript or JavaScript file of the user's, without a build: a device, a program of a lab. Its imports of
 * "tsvmm", "tsvmm/virtio" and "tsvmm/kvm" are the modules of this process, so that its classes are the same as ours.
 * The file runs in this process and may do what its user may. The hooks are in src/user-module.ts.
 */
import { createRequire, register } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "./native.ts";

/** By its name for an import, a module of the package. */
export type PackageModules = Readonly<Record<string, () => Promise<object>>>;

let importUrl: ((url: string) => Promise<unknown>) | undefined;

/**
 * Imports `path`. What the file throws passes through, with its own lines in the stack.
 *
 * @param version another number imports the file, and the files that it imports by a relative path, once more
 * @throws SyntaxError that begins with path, line and column
 */
export async function importUserModule(
	path: string,
	modules: PackageModules,
	version = 0,
): Promise<Readonly<Record<string, unknown>>> {
	importUrl ??= await installHooks(modules);
	const url = pathToFileURL(resolve(path)).href;
	return (await importUrl(version === 0 ? url : `${url}?v=${version}`)) as Record<string, unknown>;
}

async function installHooks(modules: PackageModules): Promise<(url: string) => Promise<unknown>> {
	const file = join(packageRoot(), "dist/user-module.cjs");
	const loaded = new Map<string, object>();
	for (const [name, load] of Object.entries(modules)) loaded.set(name, await load());
	Object.assign(globalThis, { [Symbol.for("tsvmm.modules")]: loaded });
	const data = new Map([...loaded].map(([name, module]) => [name, Object.keys(module)]));
	register(pathToFileURL(file), { data });
	return createRequire(pathToFileURL(file))(file).importUrl;
}

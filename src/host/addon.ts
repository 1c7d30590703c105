/*
 * Loads a Node addon whose path is known. `require` and the loaders of node-gyp-build and koffi look at dozens of paths
 * first. On a slow file system that takes a tenth of a microVM's start.
 */

/** The addon's exports. Undefined when `path` has no addon that runs here. */
export function loadAddon(path: string): unknown {
	const module = { exports: {} };
	try {
		process.dlopen(module, path);
	} catch {
		return undefined;
	}
	return module.exports;
}

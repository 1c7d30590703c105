/*
 * Loads a Node addon whose path is known. `require` would look at dozens of paths first, and so would the loaders of
 * node-gyp-build and koffi: on a slow file system that is a tenth of a microVM's start.
 */

/** The addon's exports; undefined when there is none at `path` that runs here. */
export function loadAddon(path: string): unknown {
	const module = { exports: {} };
	try {
		process.dlopen(module, path);
	} catch {
		return undefined;
	}
	return module.exports;
}

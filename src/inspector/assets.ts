/*
 * The page's files: those of src/inspector/page, which the package has in dist/inspector. They are plain HTML, CSS and
 * ES modules, served as they are.
 */
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { packageRoot } from "../host/native.ts";

const TYPES: Readonly<Record<string, string>> = {
	".html": "text/html; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
};

/** A file of the page. */
export interface Asset {
	readonly type: string;
	readonly bytes: Buffer;
}

function directory(): string {
	const isSource = import.meta.url.endsWith(".ts");
	return join(packageRoot(), isSource ? "src/inspector/page" : "dist/inspector");
}

/** The file at a path of a URL; undefined when the page has none. Only plain names lead to a file. */
export async function readAsset(path: string): Promise<Asset | undefined> {
	const name = path === "/" ? "index.html" : path.slice(1);
	const type = TYPES[extname(name)];
	if (type === undefined || !/^[a-z][a-z-]*\.[a-z]+$/.test(name)) return undefined;
	try {
		return { type, bytes: await readFile(join(directory(), name)) };
	} catch {
		return undefined;
	}
}

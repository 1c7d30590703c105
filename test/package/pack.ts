/*
 * The package as `npm pack` makes it, for tests that install it.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../../src/host/native.ts";

export interface Package {
	/** The tarball. */
	readonly path: string;
	/** Paths in it, relative to the package's root. */
	readonly files: readonly string[];
	readonly packedBytes: number;
	readonly unpackedBytes: number;
}

/** Builds what has changed and packs it into `directory`. */
export function pack(directory: string): Package {
	for (const script of ["build-native", "build-agent", "build-stand-in", "bundle", "build-library"]) {
		execFileSync(process.execPath, [join(packageRoot(), `scripts/${script}.mjs`)], { stdio: "pipe" });
	}
	/* Without the scripts: prepack would set up the whole repository again. */
	const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", directory];
	const stdout = execFileSync("npm", args, { cwd: packageRoot(), encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
	const parsed = JSON.parse(stdout);
	/* An array up to npm 11.16, an object by name since. */
	const [one] = Array.isArray(parsed) ? parsed : Object.values(parsed);
	return {
		path: join(directory, one.filename),
		files: one.files.map(({ path }: { path: string }) => path),
		packedBytes: one.size,
		unpackedBytes: one.unpackedSize,
	};
}

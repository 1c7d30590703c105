/*
 * The package as its user has it: packed, and installed in a directory of its own.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { packageRoot } from "../../src/host/native.ts";
import { type Package, pack } from "./pack.ts";

/** How a user's compiler finds the package. */
export type Resolution = "node16" | "bundler";

/** node-gyp need not fetch Node's headers where this Node has come with its own. */
function nodeHeaders(): NodeJS.ProcessEnv {
	const prefix = dirname(dirname(process.execPath));
	return existsSync(join(prefix, "include/node/node_api.h")) ? { npm_config_nodedir: prefix } : {};
}

export class InstalledPackage {
	readonly packed: Package;
	/** The user's directory. */
	readonly directory: string;
	readonly #above: string;

	/** Packs, and installs with the types of Node that the repository itself has. */
	constructor() {
		this.#above = mkdtempSync(join(tmpdir(), "package-"));
		this.directory = join(this.#above, "user");
		this.packed = pack(this.#above);
		mkdirSync(this.directory);
		writeFileSync(join(this.directory, "package.json"), '{ "type": "module" }');
		const { devDependencies } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8"));
		const types = `@types/node@${devDependencies["@types/node"]}`;
		this.run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", this.packed.path, types]);
	}

	/** Runs a command as the user. @returns its output @throws when it fails */
	run(command: string, args: readonly string[]): string {
		const env = { ...nodeHeaders(), ...process.env };
		return execFileSync(command, args, {
			cwd: this.directory,
			env,
			encoding: "utf8",
			stdio: ["ignore", "pipe", "pipe"],
		});
	}

	/** Copies a file or directory of the repository to the user. */
	copy(path: string, name: string): void {
		cpSync(join(packageRoot(), path), join(this.directory, name), { recursive: true });
	}

	/**
	 * Compiles all .ts files of a directory as strictly as can be, declarations of the package included.
	 *
	 * @returns what the compiler says; "" when it is content
	 */
	compile(directory: string, resolution: Resolution): string {
		const config = join(this.directory, directory, "tsconfig.json");
		const compilerOptions = {
			target: "es2022",
			lib: ["es2023"],
			module: resolution === "node16" ? "node16" : "esnext",
			moduleResolution: resolution,
			types: ["node"],
			strict: true,
			exactOptionalPropertyTypes: true,
			noUncheckedIndexedAccess: true,
			skipLibCheck: false,
			rewriteRelativeImportExtensions: true,
		};
		writeFileSync(config, JSON.stringify({ compilerOptions, include: ["*.ts"] }));
		try {
			return this.run(join(packageRoot(), "node_modules/.bin/tsc"), ["-p", config]);
		} catch (error) {
			return (error as { stdout: string }).stdout;
		}
	}

	remove(): void {
		rmSync(this.#above, { recursive: true });
	}
}

/*
 * Programs of the tests that run in the lab and make a machine themselves. Their bundles lie beside tsvmm's own,
 * because the native helper and koffi are found from there.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { packageRoot } from "../../src/host/native.ts";
import { LOOP } from "./guest-shell.ts";
import { testInitrd } from "./initrd.ts";
import { type KernelChoice, type Linux, testKernel } from "./linux.ts";

export class LabProgram {
	readonly #path: string;

	private constructor(path: string) {
		this.#path = path;
	}

	/** Bundles `name`.ts of a directory of the repository. */
	static async bundle(name: string, directory = "test/lab"): Promise<LabProgram> {
		const outfile = join(packageRoot(), `dist/${name}-${process.pid}.mjs`);
		await build({
			entryPoints: [join(packageRoot(), directory, `${name}.ts`)],
			outfile,
			bundle: true,
			platform: "node",
			format: "esm",
			target: "node20",
			external: ["koffi", "node-gyp-build", "*.node"],
			banner: {
				js: 'import { createRequire as bundleRequire } from "node:module";\nvar require = bundleRequire(import.meta.url);',
			},
			logLevel: "warning",
		});
		return new LabProgram(outfile);
	}

	/** The command line that runs it without arguments. */
	get command(): string[] {
		return [process.execPath, this.#path];
	}

	/** Runs it with kernel, initrd and a disk whose script reads commands. @returns the JSON that it printed */
	async run(linux: Linux, choice: KernelChoice): Promise<Record<string, string>> {
		const kernel = await testKernel(choice);
		const text = Buffer.from(LOOP);
		const script = join(linux.directory, `loop-${choice}`);
		writeFileSync(script, Buffer.concat([text, Buffer.alloc(512 - (text.length % 512))]));
		const command = [...this.command, kernel.vmlinux, await testInitrd(kernel), script];
		const { status, stdout, stderr } = await linux.lab.exec(command, { cwd: linux.directory, timeoutMs: 240_000 });
		if (status !== 0 || stderr.length > 0) throw new Error(`status ${status}: ${stdout}${stderr}`);
		return JSON.parse(String(stdout)) as Record<string, string>;
	}

	remove(): void {
		rmSync(this.#path, { force: true });
	}
}

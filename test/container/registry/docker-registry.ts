/*
 * Debian's docker-registry on a port of its own, and skopeo, for tests and the benchmark.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export class DockerRegistry {
	/** "127.0.0.1:40123" */
	readonly host: string;
	/** Removed with it. */
	readonly directory: string;
	readonly #child: ReturnType<typeof spawn>;

	private constructor(host: string, directory: string, child: ReturnType<typeof spawn>) {
		this.host = host;
		this.directory = directory;
		this.#child = child;
	}

	static async start(): Promise<DockerRegistry> {
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-registry-"));
		mkdirSync(join(directory, "tmp"));
		const config = join(directory, "config.yml");
		const storage = `storage: { filesystem: { rootdirectory: ${join(directory, "data")} } }`;
		writeFileSync(config, `version: 0.1\n${storage}\nhttp: { addr: "127.0.0.1:0" }\n`);
		const child = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
		const host = await new Promise<string>((resolve, reject) => {
			let log = "";
			child.stderr.on("data", (chunk) => {
				log += chunk;
				const found = /listening on (127\.0\.0\.1:\d+)/.exec(log);
				if (found !== null) resolve(found[1]!);
			});
			child.once("error", reject);
			child.once("exit", () => reject(new Error(log)));
		});
		return new DockerRegistry(host, directory, child);
	}

	async stop(): Promise<void> {
		const child = this.#child;
		const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined;
		child.kill();
		await ended;
		rmSync(this.directory, { recursive: true, force: true });
	}

	/** Runs skopeo, which believes every image. @returns its output */
	async skopeo(...args: string[]): Promise<string> {
		const temporary = join(this.directory, "tmp");
		const env = { ...process.env, HOME: this.directory, TMPDIR: temporary, XDG_RUNTIME_DIR: temporary };
		return (await promisify(execFile)("skopeo", ["--insecure-policy", "--tmpdir", temporary, ...args], { env })).stdout;
	}
}

/*
 * tsvmm's command line for tests, each command a process of its own, with containers on an ext4 file system in the lab's
 * RAM. There a file that is deleted while it is open, fsync and locks behave as on a disk, which they do not on 9p.
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

const STATE = "/run/tsvmm-state";

export class LabCommands {
	/** A directory that this machine and the lab share. */
	readonly directory: string;
	readonly #env: NodeJS.ProcessEnv;

	private constructor(directory: string, memoryMiB: number) {
		this.directory = directory;
		this.#env = {
			...process.env,
			TSVMM_RUNTIME: join(directory, "run"),
			TSVMM_STATE: STATE,
			TSVMM_LAB_MEMORY_MIB: `${memoryMiB}`,
		};
	}

	/** Brings a lab of its own up. @param stateMiB room for what the containers write */
	static up({ memoryMiB = 3072, stateMiB = 1024 } = {}): LabCommands {
		buildAgent();
		execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
		const commands = new LabCommands(mkdtempSync(join(tmpdir(), "tsvmm-work-")), memoryMiB);
		try {
			commands.must("lab", "up");
			const disk = "/dev/shm/state.img";
			commands.inLab(`
				set -e
				modprobe loop 2>/dev/null || true
				truncate -s ${stateMiB}M ${disk}; mkfs.ext4 -q ${disk}
				mkdir -p ${STATE}; mount -o loop ${disk} ${STATE}`);
			return commands;
		} catch (error) {
			commands.down();
			throw error;
		}
	}

	/** Ends the lab and all that is in it. */
	down(): void {
		this.run(["lab", "down"]);
		rmSync(this.directory, { recursive: true, force: true });
	}

	run(words: readonly string[], input = ""): SpawnSyncReturns<string> {
		const [command, ...args] = this.#words(words);
		return spawnSync(command!, args, { env: this.#env, input, encoding: "utf8", maxBuffer: 64 << 20 });
	}

	/** Runs a command that must succeed. @returns its output, which is no text */
	bytes(words: readonly string[], input: Buffer | "" = ""): Buffer {
		const [command, ...args] = this.#words(words);
		return execFileSync(command!, args, { env: this.#env, input, maxBuffer: 256 << 20 });
	}

	/** Runs a command that must succeed and print nothing to stderr. @returns its output */
	must(...words: string[]): string {
		const { status, stdout, stderr } = this.run(words);
		expect({ words, status, stdout, stderr }).toMatchObject({ status: 0, stderr: "" });
		return stdout;
	}

	/** Runs a shell script in a container. @returns its output */
	inContainer(name: string, script: string): string {
		const { status, stdout, stderr } = this.run(["exec", name, "sh", "-c", script]);
		expect({ script, status, stdout, stderr }).toMatchObject({ status: 0 });
		return stdout;
	}

	/** Runs a shell script in the lab. @returns its output */
	inLab(script: string): string {
		const { status, stdout, stderr } = this.run(["lab", "exec", "-q", "--", "sh", "-c", script]);
		expect({ script, status, stdout, stderr }).toMatchObject({ status: 0 });
		return stdout;
	}

	/** Starts a command and leaves it running. */
	start(...words: string[]) {
		const [command, ...args] = this.#words(words);
		return spawn(command!, args, { env: this.#env, stdio: ["pipe", "pipe", "pipe"] });
	}

	#words(words: readonly string[]): string[] {
		return [process.execPath, join(packageRoot(), "dist/tsvmm.js"), ...words];
	}
}

/*
 * The real guest agent as a process of this machine, for tests: `--stream unix:PATH` in a directory of its own.
 * Everything it leaves is removed by `stop`.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";

export const AGENT = fileURLToPath(new URL("../../guests/out/agent", import.meta.url));

/** Builds the agent if its sources are newer. */
export function buildAgent(): void {
	execFileSync(process.execPath, [fileURLToPath(new URL("../../scripts/build-agent.mjs", import.meta.url))]);
}

export class NativeAgent {
	readonly directory = mkdtempSync(`${tmpdir()}/tsvmm-agent-`);
	readonly path = `${this.directory}/agent.sock`;
	readonly process: ChildProcess;

	/**
	 * @param wrapper a command in front of the agent's, such as unshare
	 * @param flags more of the agent's own
	 */
	constructor(wrapper: readonly string[] = [], flags: readonly string[] = []) {
		const [command, ...args] = [...wrapper, AGENT, "--stream", `unix:${this.path}`, ...flags];
		this.process = spawn(command!, args, { stdio: ["ignore", "ignore", "inherit"] });
	}

	connect(): Promise<Socket> {
		return connectSoon(this.path);
	}

	async stop(): Promise<void> {
		if (this.process.exitCode === null && this.process.signalCode === null) {
			const ended = new Promise((resolve) => this.process.once("exit", resolve));
			this.process.kill("SIGKILL");
			await ended;
		}
		rmSync(this.directory, { recursive: true, force: true });
	}
}

/** Connects to a socket on which somebody is about to listen. Its file is there a moment before. */
export async function connectSoon(path: string): Promise<Socket> {
	for (let i = 0; ; i++) {
		const socket = connect(path);
		try {
			await once(socket, "connect");
			return socket;
		} catch (error) {
			if (i === 500) throw error;
			await sleep(10);
		}
	}
}

/** An agent for all tests of a file, and its client, which has greeted it when the first one begins. */
export function startedAgent(): { readonly agent: NativeAgent; readonly client: AgentClient } {
	let agent: NativeAgent | undefined;
	let client: AgentClient | undefined;
	beforeAll(async () => {
		buildAgent();
		agent = new NativeAgent();
		client = new AgentClient(await agent.connect());
		await client.hello();
	});
	afterAll(async () => {
		client?.close();
		await agent?.stop();
	});
	return {
		get agent() {
			return agent!;
		},
		get client() {
			return client!;
		},
	};
}

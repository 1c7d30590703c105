/*
 * How the agent ends when its host does.
 */
import { spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, expect, test } from "vitest";
import { encodeFrame, FRAME } from "../../src/agent/protocol.ts";
import { AGENT, buildAgent } from "./native-agent.ts";

beforeAll(buildAgent);

test("agent ends when the host vanishes while answers wait to be written", async () => {
	const agent = spawn(AGENT, ["--stream", "fd:3"], { stdio: ["ignore", "ignore", "inherit", "pipe"] });
	const ended = new Promise((resolve) => agent.once("exit", (code) => resolve(code)));
	const stream = agent.stdio[3] as Duplex;
	stream.on("error", () => undefined);
	stream.pause();
	try {
		/* Nobody reads the PONGs: the agent's buffers fill, then the socket's, then ours. */
		const pings = Buffer.concat(Array.from({ length: 100 }, () => encodeFrame(FRAME.PING, 0, 1, Buffer.alloc(64))));
		for (let idle = 0, waiting = 0; idle < 20; await sleep(10)) {
			stream.write(pings);
			idle = stream.writableLength > waiting ? idle + 1 : 0;
			waiting = stream.writableLength;
		}
		stream.destroy();
		expect(await Promise.race([ended, sleep(10_000, "it hangs")])).toBe(0);
	} finally {
		agent.kill("SIGKILL");
	}
});

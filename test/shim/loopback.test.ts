/*
 * Connections to a pod's loopback, led on by the real agent, whose guest is this machine here: what is taken at 127.0.0.2
 * goes to the same port of 127.0.0.1 or ::1.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { busyboxPath } from "../../src/container/busybox.ts";
import { forward } from "../../src/shim/loopback.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const LENGTH = 1_000_000;
const directory = mkdtempSync(`${tmpdir()}/tsvmm-loopback-`);
let agent: NativeAgent;
let client: AgentClient;

beforeAll(async () => {
	buildAgent();
	mkdirSync(`${directory}/tools`);
	copyFileSync(await busyboxPath(), `${directory}/tools/busybox`);
	agent = new NativeAgent([], ["--tools", `${directory}/tools`]);
	client = new AgentClient(await agent.connect());
	await client.hello();
});
afterAll(async () => {
	client.close();
	await agent.stop();
	rmSync(directory, { recursive: true });
});

async function listening(server: Server, host: string, port = 0): Promise<number> {
	await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, host, resolve));
	return (server.address() as AddressInfo).port;
}

/** Connects to a port's forwarder, sends all of `sent`, and resolves with what comes back. */
async function exchange(port: number, sent: string | Buffer): Promise<string> {
	const sockets: Socket[] = [];
	const server = createServer({ allowHalfOpen: true }, (socket) => {
		sockets.push(socket.on("error", () => undefined));
		forward(client, socket).catch(() => socket.resetAndDestroy());
	});
	await listening(server, "127.0.0.2", port);
	try {
		const socket = connect(port, "127.0.0.2");
		socket.end(sent);
		return await text(socket);
	} finally {
		server.close();
	}
}

test.each(["127.0.0.1", "::1"])(
	"forward leads to a program at %s, both ways until both sides have ended",
	async (host) => {
		/* It answers after it has all of the request. */
		const program = createServer({ allowHalfOpen: true }, (socket) => {
			let bytes = 0;
			socket.on("data", (chunk) => {
				bytes += chunk.length;
			});
			socket.on("end", () => socket.end(`${bytes}${"x".repeat(LENGTH)}`));
		});
		const port = await listening(program, host);
		const answer = await exchange(port, "y".repeat(LENGTH));
		expect([answer.length, answer.slice(0, 8)]).toEqual([LENGTH + 7, `${LENGTH}x`]);
		program.close();
	},
);

test("forward resets a connection when nobody listens at its port", async () => {
	const spare = createServer();
	const port = await listening(spare, "127.0.0.1");
	spare.close();
	await expect(exchange(port, "")).rejects.toThrow("ECONNRESET");
});

test("forward ends its process in the guest when the client has gone", async () => {
	const closed = new Promise<void>((resolve) => {
		const program = createServer((socket) => {
			socket.resume().on("close", () => {
				program.close();
				resolve();
			});
			socket.write("hello");
		});
		void listening(program, "127.0.0.1").then((port) => {
			const server = createServer({ allowHalfOpen: true }, (socket) => {
				socket.on("error", () => undefined);
				forward(client, socket).catch(() => socket.destroy());
			});
			void listening(server, "127.0.0.2", port).then(() => {
				const socket = connect(port, "127.0.0.2");
				socket.once("data", () => {
					socket.resetAndDestroy();
					server.close();
				});
			});
		});
	});
	await closed;
});

/*
 * AgentBroker between several clients and the real agent; and what the agent does with bytes that are no frames.
 */
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer, connect as netConnect, type Server, type Socket } from "node:net";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AgentBroker } from "../../src/agent/broker.ts";
import { AgentClient } from "../../src/agent/client.ts";
import {
	decodeHello,
	decodeHelloAnswer,
	encodeFrame,
	encodeHello,
	encodeHelloAnswer,
	FRAME,
} from "../../src/agent/protocol.ts";
import type { ExitStatus } from "../../src/agent/session.ts";
import { duplexPair } from "../../src/backends/duplex-pair.ts";
import { AGENT, buildAgent, NativeAgent } from "./native-agent.ts";

const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
const gone = (pid: number) => !existsSync(`/proc/${pid}`);

async function until(condition: () => boolean): Promise<void> {
	for (let i = 0; i < 300 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
	expect(condition()).toBe(true);
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk);
	return Buffer.concat(chunks).toString();
}

beforeAll(buildAgent);

describe("AgentBroker", () => {
	let agent: NativeAgent;
	let broker: AgentBroker;
	let server: Server;
	let exits: ExitStatus[];
	const clients: AgentClient[] = [];

	beforeEach(async () => {
		agent = new NativeAgent();
		exits = [];
		broker = new AgentBroker(await agent.connect(), (status) => exits.push(status));
		server = createServer((socket) => broker.attach(socket));
		await new Promise<void>((resolve) => server.listen(`${agent.directory}/broker.sock`, resolve));
	});
	afterEach(async () => {
		for (const client of clients.splice(0)) client.close();
		broker.close();
		await new Promise((resolve) => server.close(resolve));
		await agent.stop();
	});
	async function client(): Promise<AgentClient> {
		const socket = netConnect(`${agent.directory}/broker.sock`);
		const made = new AgentClient(socket);
		clients.push(made);
		await made.hello();
		return made;
	}

	test("exited is told how each process ended, of a client that has gone, too", async () => {
		const one = await client();
		const first = await one.exec({ args: ["sh", "-c", "exit 3"], env });
		expect(await first.exit).toEqual({ code: 3 });
		await one.exec({ args: ["sleep", "60"], env });
		one.close();
		await until(() => exits.length === 2);
		expect(exits[0]).toEqual({ code: 3 });
		expect(exits[1]).toHaveProperty("signal");
	});

	test("a process that its client leaves goes on, and its output holds it up no more", async () => {
		const one = await client();
		const path = `${agent.directory}/left`;
		const script = `head -c 1000000 /dev/zero; echo line >${path}; head -c 1000000 /dev/zero; echo end >>${path}`;
		const session = await one.exec({ args: ["sh", "-c", script], env });
		await once(session.stdout, "readable");
		session.leave();
		expect(await session.exit).toEqual({ code: 0 });
		session.stdout.resume();
		await once(session.stdout, "end");
		const again = await one.exec({ args: ["sh", "-c", "exit 4"], env });
		expect(await again.exit).toEqual({ code: 4 });
		one.close();
		await until(() => existsSync(path) && readFileSync(path, "utf8").endsWith("end\n"));
		await until(() => exits.length === 2);
		/* Either may end first. */
		expect(exits).toEqual(expect.arrayContaining([{ code: 0 }, { code: 4 }]));
	});

	test("clients with equal session ids do not see each other's output", async () => {
		const both = await Promise.all([client(), client()]);
		const outputs = await Promise.all(
			both.map(async (one, i) => {
				const session = await one.exec({ args: ["cat"], env });
				session.stdin.end(`client ${i}`);
				return [session.id, await text(session.stdout), await session.exit];
			}),
		);
		expect(outputs).toEqual([
			[1, "client 0", { code: 0 }],
			[1, "client 1", { code: 0 }],
		]);
	});
	test("hello through the broker tells the agent's pid and ping answers", async () => {
		const one = await client();
		expect((await one.hello()).pid).toBe(agent.process.pid);
		expect(await one.ping()).toBeLessThan(1000);
	});
	test("a client that goes away takes its processes along and leaves the other alone", async () => {
		const one = await client();
		const other = await client();
		const lost = await one.exec({ args: ["sh", "-c", "trap '' HUP; sleep 60; :"], env });
		const kept = await other.exec({ args: ["sleep", "60"], env });
		one.close();
		await expect(lost.exit).rejects.toThrow(/Cannot talk to the guest agent/);
		await until(() => gone(lost.pid));
		expect(gone(kept.pid)).toBe(false);
		kept.signal(9);
		expect(await kept.exit).toEqual({ signal: 9 });
	});
	test("a client that sends garbage is dropped, the others go on", async () => {
		const socket = netConnect(`${agent.directory}/broker.sock`);
		const dropped = new Promise((resolve) => socket.once("close", resolve));
		socket.on("error", () => undefined);
		socket.resume();
		socket.write(Buffer.alloc(100, 0xff));
		await dropped;
		const session = await (await client()).exec({ args: ["echo", "alive"], env });
		expect(await text(session.stdout)).toBe("alive\n");
	});
	test("32 MiB to a slow client neither stall nor mix with another's", async () => {
		const slow = await client();
		const quick = await client();
		const big = await slow.exec({ args: ["head", "-c", String(32 << 20), "/dev/zero"], env });
		for (let i = 0; i < 5; i++) {
			const session = await quick.exec({ args: ["echo", String(i)], env });
			expect(await text(session.stdout)).toBe(`${i}\n`);
		}
		expect((await text(big.stdout)).length).toBe(32 << 20);
	});
	test("the end of the agent closes the clients", async () => {
		const one = await client();
		const session = await one.exec({ args: ["sleep", "1"], env });
		agent.process.kill("SIGKILL");
		await expect(session.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
		await broker.closed;
	});
});

describe("agent", () => {
	let agent: NativeAgent;
	let socket: Socket;

	beforeEach(async () => {
		agent = new NativeAgent();
		socket = await agent.connect();
		socket.on("error", () => undefined);
	});
	afterEach(async () => {
		socket.destroy();
		await agent.stop();
	});

	async function works(): Promise<void> {
		const client = new AgentClient(await agent.connect());
		await client.hello();
		const session = await client.exec({ args: ["echo", "alive"], env });
		expect(await text(session.stdout)).toBe("alive\n");
		client.close();
	}

	test("closes a connection that sends garbage and serves the next", async () => {
		const closed = new Promise((resolve) => socket.once("close", resolve));
		socket.resume();
		socket.write(Buffer.alloc(70000, 0xa5));
		await closed;
		await works();
	});
	test("survives every frame type with random payloads", async () => {
		for (let type = 1; type <= 20; type++) {
			if (type === 17 || type === 18) continue; /* CLOCK would set this machine's */
			for (const length of [0, 1, 3, 4, 7, 300]) {
				const frame = Buffer.alloc(12 + length, 0x41);
				frame.writeUInt32LE(length, 0);
				frame[4] = type;
				frame[5] = length & 1 ? 3 : 2; /* no FLAG_MORE alone: EXEC starts */
				frame.writeUInt16LE(0, 6);
				frame.writeUInt32LE(length % 5, 8);
				socket.write(frame);
			}
		}
		await new Promise((resolve) => setTimeout(resolve, 100));
		socket.destroy();
		await works();
	});
	test("a new hello ends the sessions of a host that vanished", async () => {
		const first = new AgentClient(socket);
		await first.hello();
		const session = await first.exec({ args: ["sleep", "60"], env });
		first.close();
		await works();
		await until(() => gone(session.pid));
	});
	test("refuses to power off a machine that it is not in charge of", async () => {
		const client = new AgentClient(socket);
		await client.hello();
		await expect(client.powerOff()).rejects.toThrow(/Cannot power the machine off/);
	});
	test("is below 200 KiB and resident in less than 1.1 MiB after work", async () => {
		const client = new AgentClient(socket);
		await client.hello();
		const session = await client.exec({ args: ["head", "-c", "10000000", "/dev/zero"], env });
		await text(session.stdout);
		const status = readFileSync(`/proc/${agent.process.pid}/status`, "utf8");
		const rssKiB = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
		expect(readFileSync(AGENT).length).toBeLessThan(200 * 1024);
		expect(rssKiB).toBeLessThan(1126);
	});
});

describe("versions of the protocol", () => {
	/** A HELLO of a host that speaks `min` to `max`. */
	function question(min: number, max: number): Buffer {
		const frame = encodeHello(Buffer.from("12345678"), false);
		frame.writeUInt16LE(min, 12 + 8);
		frame.writeUInt16LE(max, 12 + 10);
		return frame;
	}

	test.each([
		[1, 9, 3],
		[2, 2, 2],
		[1, 0, 3] /* a host of before versions were ranges: it finds 3, which it does not know */,
		[4, 5, 3],
	])("the agent answers a host that speaks %d to %d with %d", async (min, max, version) => {
		const agent = new NativeAgent();
		const socket = await agent.connect();
		try {
			socket.write(question(min, max));
			const [answer] = (await once(socket, "data")) as [Buffer];
			expect(decodeHelloAnswer(answer.subarray(12), Buffer.from("12345678"))?.version).toBe(version);
			socket.write(encodeFrame(FRAME.POWEROFF, 0, 1));
			socket.write(encodeFrame(FRAME.PING, 0, 2));
			const [frames] = (await once(socket, "data")) as [Buffer];
			const common = min <= 3 && max >= 2;
			expect(frames[4]).toBe(common ? FRAME.FAILED : FRAME.PONG); /* without a version only PING is answered */
		} finally {
			socket.destroy();
			await agent.stop();
		}
	});
	test.each([1, 4])("a host that meets an agent of version %d says so and hangs up", async (version) => {
		const [ours, theirs] = duplexPair();
		theirs.once("data", (chunk: Buffer) => {
			const { nonce } = decodeHello(chunk.subarray(12))!;
			theirs.write(encodeHelloAnswer(nonce, { version, pid: 1, startMs: 0, nowMs: 0 }));
		});
		const client = new AgentClient(ours);
		await expect(client.hello()).rejects.toMatchObject({ code: "ERR_AGENT_VERSION" });
		await client.closed;
		await expect(client.ping()).rejects.toMatchObject({ code: "ERR_AGENT_VERSION" });
	});
});

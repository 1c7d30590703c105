/*
 * AgentClient and AgentBroker against an agent that breaks the protocol: every malformed, early, late or excess frame
 * ends the connection with ERR_AGENT_PROTOCOL, and nothing else happens.
 */
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, describe, expect, test, vi } from "vitest";
import { AgentBroker } from "../../src/agent/broker.ts";
import { AgentClient } from "../../src/agent/client.ts";
import {
	decodeHello,
	encodeFrame,
	encodeHelloAnswer,
	encodeU32,
	FLAG_OUT_OF_MEMORY,
	FRAME,
	type Frame,
	OUTPUT_WINDOW,
	PROTOCOL_MAX,
} from "../../src/agent/protocol.ts";
import type { Session } from "../../src/agent/session.ts";
import { FrameSplitter } from "../../src/agent/splitter.ts";
import { duplexPair } from "../../src/backends/duplex-pair.ts";
import type { TsvmmError } from "../../src/base/errors.ts";
import { Random, randomFrame } from "./random.ts";

/** An agent that answers HELLO in order; everything else is up to the test. */
class FakeAgent {
	readonly received: Frame[] = [];
	readonly #stream: Duplex;

	constructor(stream: Duplex) {
		this.#stream = stream;
		const splitter = new FrameSplitter();
		stream.on("error", () => undefined);
		stream.on("data", (chunk: Buffer) => {
			for (const frame of splitter.push(chunk)) {
				this.received.push(frame);
				if (frame.type !== FRAME.HELLO) continue;
				const { nonce } = decodeHello(frame.payload)!;
				this.write(encodeHelloAnswer(nonce, { version: PROTOCOL_MAX, pid: 1, startMs: 0, nowMs: 1 }));
			}
		});
	}
	write(bytes: Buffer): void {
		if (!this.#stream.destroyed) this.#stream.write(bytes);
	}
	send(type: number, session: number, payload: Buffer = Buffer.alloc(0), flags = 0): void {
		this.write(encodeFrame(type, flags, session, payload));
	}
	sendAll(type: number, session: number, payloads: readonly string[]): void {
		for (const payload of payloads) this.send(type, session, Buffer.from(payload));
	}
	start(session: number): void {
		this.send(FRAME.STARTED, session, encodeU32(7));
	}
	/** The sessions of the EXECs that have arrived. */
	get sessions(): number[] {
		return this.received.filter(({ type }) => type === FRAME.EXEC).map(({ session }) => session);
	}
	destroy(): void {
		this.#stream.destroy();
	}
}

async function connected(options?: { patient: boolean }) {
	const [ours, theirs] = duplexPair();
	const agent = new FakeAgent(theirs);
	const client = new AgentClient(ours, options);
	await client.hello();
	return { agent, client };
}

async function running() {
	const { agent, client } = await connected();
	const pending = client.exec({ args: ["yes"] });
	await turn();
	agent.start(1);
	return { agent, client, session: await pending };
}

const lost = { code: "ERR_AGENT_PROTOCOL" };
const failed = (status: number, text = "no") => Buffer.concat([encodeU32(status), encodeU32(2), Buffer.from(text)]);

describe("AgentClient answers a broken protocol with ERR_AGENT_PROTOCOL", () => {
	test.each<[string, number, Buffer<ArrayBufferLike>?, number?]>([
		["an empty DONE", FRAME.DONE],
		["STARTED without a pid", FRAME.STARTED],
		["STARTED with pid 0", FRAME.STARTED, encodeU32(0)],
		["output before STARTED", FRAME.STDOUT, Buffer.from("early")],
		["EXIT before STARTED", FRAME.EXIT, encodeU32(0)],
		["a FAILED cut short", FRAME.FAILED, encodeU32(127)],
		["a FAILED with status 0", FRAME.FAILED, failed(0)],
		["a FAILED of 60 KiB", FRAME.FAILED, failed(127, "x".repeat(60_000))],
		["a PONG", FRAME.PONG],
		["a frame of the host's", FRAME.STDIN, Buffer.from("x")],
		["flags", FRAME.STARTED, encodeU32(7), 1],
	])("EXEC answered by %s", async (_name, type, payload, flags) => {
		const { agent, client } = await connected();
		const pending = client.exec({ args: ["true"] });
		await turn();
		agent.send(type, 1, payload, flags);
		await expect(pending).rejects.toMatchObject(lost);
		await client.closed;
		await expect(client.ping()).rejects.toMatchObject(lost);
	});
	test.each<[string, (agent: FakeAgent) => void]>([
		["STDOUT after its end", (agent) => agent.sendAll(FRAME.STDOUT, 1, ["x", "", "x"])],
		["a second end of STDERR", (agent) => agent.sendAll(FRAME.STDERR, 1, ["", ""])],
		["a second STARTED", (agent) => agent.start(1)],
		["EXIT without a status", (agent) => agent.send(FRAME.EXIT, 1)],
		["EXIT of a process that is stopped", (agent) => agent.send(FRAME.EXIT, 1, encodeU32(0x137f))],
		["EXIT with flags of no meaning", (agent) => agent.send(FRAME.EXIT, 1, encodeU32(0), 2)],
		["CREDIT for input that was never sent", (agent) => agent.send(FRAME.CREDIT, 1, encodeU32(1))],
		["a second STDIN_CLOSE", (agent) => agent.sendAll(FRAME.STDIN_CLOSE, 1, ["", ""])],
		["DONE", (agent) => agent.send(FRAME.DONE, 1)],
		["a frame for a session that is none", (agent) => agent.send(FRAME.STDOUT, 2, Buffer.from("x"))],
		[
			"a HELLO that answers none",
			(agent) => agent.write(encodeHelloAnswer(Buffer.alloc(8), { version: 1, pid: 1, startMs: 0, nowMs: 0 })),
		],
		["no frame", (agent) => agent.write(Buffer.alloc(12, 0xff))],
	])("a running process: %s", async (_name, attack) => {
		const { agent, session } = await running();
		attack(agent);
		await expect(session.exit).rejects.toMatchObject(lost);
	});
	test("frames after EXIT", async () => {
		const { agent, client, session } = await running();
		agent.send(FRAME.EXIT, 1, encodeU32(0));
		expect(await session.exit).toEqual({ code: 0 });
		agent.send(FRAME.STDOUT, 1, Buffer.from("late"));
		await client.closed;
		await expect(client.ping()).rejects.toMatchObject(lost);
	});
	test.each(["stdout", "stderr"] as const)("%s beyond the window, which nobody reads", async (name) => {
		const { agent, session } = await running();
		const type = name === "stdout" ? FRAME.STDOUT : FRAME.STDERR;
		for (let sent = 0; sent < OUTPUT_WINDOW; sent += 65536) agent.send(type, 1, Buffer.alloc(65536));
		await turn();
		expect(session[name].destroyed).toBe(false);
		agent.send(type, 1, Buffer.alloc(1));
		await expect(session.exit).rejects.toMatchObject(lost);
		let bytes = 0;
		for await (const chunk of session[name]) bytes += (chunk as Buffer).length;
		expect(bytes).toBe(OUTPUT_WINDOW);
	});
	test("a window of single bytes is held in few buffers", async () => {
		const { agent, session } = await running();
		const frames = Array.from({ length: 100_000 }, (_, i) => encodeFrame(FRAME.STDOUT, 0, 1, Buffer.from([i & 0xff])));
		agent.write(Buffer.concat(frames));
		await turn();
		const chunks = await session.stdout.take(1).toArray();
		expect((chunks[0] as Buffer).length).toBeGreaterThan(4096);
	});
	test("the guest's words cannot steer the terminal", async () => {
		const { agent, client } = await connected();
		const pending = client.exec({ args: ["true"] });
		await turn();
		agent.send(FRAME.FAILED, 1, failed(127, "cannot \x1b[2J\u202e run\r\n"));
		await expect(pending).rejects.toMatchObject({ message: "Cannot ?[2J? run??", exitStatus: 127 });
	});
});

describe("AgentClient and an agent that does not answer", () => {
	afterEach(() => vi.useRealTimers());

	test("EXIT tells by its flags that memory has run out", async () => {
		for (const flags of [0, FLAG_OUT_OF_MEMORY]) {
			const { agent, session } = await running();
			expect(session.outOfMemory).toBe(false);
			agent.send(FRAME.EXIT, 1, encodeU32(9), flags);
			expect(await session.exit).toEqual({ signal: 9 });
			expect(session.outOfMemory).toBe(flags === FLAG_OUT_OF_MEMORY);
		}
	});

	test("waits a minute, then closes what it asked for; an answer that comes late does no harm", async () => {
		const { agent, client } = await connected();
		vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
		const asked = [client.exec({ args: ["a"] }), client.setup([["wait", "/x"]]), client.ping(), client.remove("x")];
		const failed = Promise.all(asked.map((one) => expect(one).rejects.toMatchObject({ code: "ERR_AGENT_TIMEOUT" })));
		await vi.advanceTimersByTimeAsync(60_000);
		await failed;
		await turn();
		expect(agent.received.filter(({ type }) => type === FRAME.CLOSE).map(({ session }) => session)).toEqual([1, 2]);
		agent.start(1);
		agent.send(FRAME.STDOUT, 1, Buffer.from("late"));
		agent.send(FRAME.EXIT, 1, encodeU32(9));
		agent.send(FRAME.DONE, 2);
		agent.send(FRAME.PONG, 3);
		agent.send(FRAME.DONE, 4);
		const ping = client.ping();
		await turn();
		agent.send(FRAME.PONG, 5);
		expect(await ping).toBeGreaterThanOrEqual(0);
	});

	test("waits for ever when a debugger may stop the guest", async () => {
		const { agent, client } = await connected({ patient: true });
		vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
		const asked = Promise.all([client.setup([["wait", "/x"]]), client.ping()]);
		const [ours, silent] = duplexPair();
		const greeting = new AgentClient(ours, { patient: true }).hello();
		const refused = expect(greeting).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
		await vi.advanceTimersByTimeAsync(24 * 3_600_000);
		agent.send(FRAME.DONE, 1);
		agent.send(FRAME.PONG, 2);
		await asked;
		silent.destroy();
		await refused;
	});
});

const stillOpen = (client: AgentClient) => Promise.race([client.closed.then(() => false), turn(true)]);

const AGENT_TYPES = [4, 5, 6, 8, 9, 9, 9, 10, 10, 13, 14, 16];
const ROUNDS = 300;

describe("fuzz", () => {
	test("AgentClient survives random and mutated frames, and everything it promised settles", async () => {
		let started = 0;
		let survived = 0;
		for (let seed = 1; seed <= ROUNDS; seed++) {
			const random = new Random(seed);
			const { agent, client } = await connected();
			const sessions: Session[] = [];
			const wildness = random.of([1, 20, 1000]); /* one frame in so many is not plausible */
			const asked = [
				client.exec({ args: ["a"] }).then((session) => sessions.push(session)),
				client.exec({ args: ["b"] }).then((session) => sessions.push(session)),
				client.setup([["hostname", "x"]]),
				client.ping(),
				client.setClock(0),
			];
			const settled = Promise.allSettled(asked);
			await turn();
			for (const id of [1, 2]) if (wildness > 1 || random.below(2) === 0) agent.start(id);
			for (let i = 0; i < 60; i++) {
				const plausible = random.below(wildness) > 0;
				const frame = plausible
					? encodeFrame(
							random.of([FRAME.STDOUT, FRAME.STDERR]),
							0,
							1 + random.below(2),
							random.bytes(1 + random.below(3000)),
						)
					: randomFrame(random, [...AGENT_TYPES, random.below(22)], [1, 1, 2, 3, 4, 5, 6]);
				const bytes = plausible || random.below(4) > 0 ? frame : random.mutate(frame);
				const cut = random.below(bytes.length + 1);
				agent.write(bytes.subarray(0, cut));
				agent.write(bytes.subarray(cut));
				if (i % 8 === 0) await turn();
				for (const session of sessions) {
					if (session.stdin.writable && random.below(4) === 0) session.stdin.write(random.bytes(random.below(2000)));
					if (random.below(8) === 0) session.stdout.read();
					if (random.below(30) === 0) session.stderr.destroy();
				}
			}
			await turn();
			started += sessions.length;
			survived += Number(await stillOpen(client));
			agent.destroy();
			await settled;
			await client.closed;
			for (const session of sessions) {
				await session.exit.catch((error: unknown) =>
					expect((error as TsvmmError).code).toMatch(/^ERR_AGENT_(PROTOCOL|LOST)$/),
				);
				expect(session.stdout.readableLength).toBeLessThanOrEqual(OUTPUT_WINDOW);
			}
		}
		expect(started).toBeGreaterThan(ROUNDS / 2);
		expect(survived).toBeGreaterThan(ROUNDS / 20);
		expect(survived).toBeLessThan(ROUNDS / 2);
	});
	test("AgentBroker survives a random agent and random clients", async () => {
		for (let seed = 1; seed <= ROUNDS; seed++) {
			const random = new Random(seed);
			const [ours, theirs] = duplexPair();
			const agent = new FakeAgent(theirs);
			const broker = new AgentBroker(ours);
			await broker.ready;
			const clients = [1, 2, 3].map(() => {
				const [near, far] = duplexPair();
				near.on("error", () => undefined);
				near.resume();
				broker.attach(far);
				return near;
			});
			const good = new AgentClient(clients[0]!);
			const session = good.hello().then(() => good.exec({ args: ["a"] }));
			session.catch(() => undefined);
			await turn();
			for (const id of agent.sessions) agent.start(id);
			for (let i = 0; i < 40; i++) {
				const frame = randomFrame(random, [...AGENT_TYPES, 2, 3, 7, 11, 12, 15, 18, 19], [1, 2, 3, 4]);
				const bytes = random.below(12) === 0 ? random.mutate(frame) : frame;
				const client = random.of(clients.slice(1));
				if (!client.destroyed) client.write(bytes);
				if (random.below(10) === 0) agent.write(randomFrame(random, AGENT_TYPES, [1, 2, 3, 4]));
				if (i % 8 === 0) await turn();
			}
			broker.close();
			agent.destroy();
			await broker.closed;
			await (await session.catch(() => undefined))?.exit.catch(() => undefined);
		}
	});
});

describe("AgentBroker", () => {
	test("an agent that breaks the protocol loses its stream, and the clients end", async () => {
		const [ours, theirs] = duplexPair();
		const agent = new FakeAgent(theirs);
		const broker = new AgentBroker(ours);
		const [near, far] = duplexPair();
		broker.attach(far);
		const client = new AgentClient(near);
		await client.hello();
		const pending = client.exec({ args: ["yes"] });
		pending.catch(() => undefined);
		await turn();
		agent.start(1);
		const session = await pending;
		for (let sent = 0; sent <= OUTPUT_WINDOW; sent += 65536) agent.send(FRAME.STDOUT, 1, Buffer.alloc(65536));
		await broker.closed;
		await expect(session.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
	});
	test("a client that sends more than its window is dropped, the agent's stream goes on", async () => {
		const [ours, theirs] = duplexPair();
		const agent = new FakeAgent(theirs);
		const broker = new AgentBroker(ours);
		await broker.ready;
		const [near, far] = duplexPair();
		near.on("error", () => undefined);
		near.resume();
		broker.attach(far);
		near.write(encodeFrame(FRAME.EXEC, 0, 1, Buffer.from("arg=cat\0")));
		for (let i = 0; i < 3; i++) near.write(encodeFrame(FRAME.STDIN, 0, 1, Buffer.alloc(65536)));
		await new Promise((resolve) => near.once("close", resolve));
		const [left, right] = duplexPair();
		broker.attach(right);
		expect((await new AgentClient(left).hello()).pid).toBeGreaterThan(0);
		expect(agent.received.map(({ type }) => type)).toContain(FRAME.CLOSE);
		broker.close();
	});
});

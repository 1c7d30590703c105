/*
 * The check of lab 9: the program exports `AgentHost`, the host's side of a vsock device and of an agent's protocol. The
 * check is the guest: it opens the port, sends frames whole, in pieces and in rows, and goes away in the middle.
 */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { VsockBackend } from "../../backends/contract.ts";
import type { Attempt } from "../attempt.ts";
import type { Lab } from "../lab.ts";
import { quote } from "../report.ts";

interface Result {
	readonly status: number;
	readonly output: string;
}
interface AgentHost extends VsockBackend {
	run(command: string): Promise<Result>;
}
type AgentHostClass = new () => AgentHost;

const PORT = 1024;
const VERSION = 1;

interface Message {
	readonly type: string;
	readonly id?: number;
	readonly command?: string;
}

export const agentLab: Lab = {
	number: 9,
	name: "agent",
	title: "vsock and an agent",
	needsKvm: false,
	async check(attempt) {
		const type = await attempt.exported<AgentHostClass>("AgentHost", "class");
		await checkPorts(attempt, type);
		await checkOne(attempt, type);
		await checkPieces(attempt, type);
		await checkTwo(attempt, type);
		await checkEarly(attempt, type);
		for (const end of ENDS) await checkEnd(attempt, type, end);
	},
};

/** A frame: the length of its JSON, 32 bits little-endian, and the JSON. */
function frame(message: object): Buffer {
	const json = Buffer.from(JSON.stringify(message));
	const length = Buffer.alloc(4);
	length.writeUInt32LE(json.length);
	return Buffer.concat([length, json]);
}

/** The agent in the guest, as the device connects it. */
class Guest {
	readonly host: AgentHost;
	readonly #attempt: Attempt;
	#stream: Duplex | undefined;
	#received = Buffer.alloc(0);

	constructor(attempt: Attempt, type: AgentHostClass) {
		this.#attempt = attempt;
		this.host = new type();
		this.host.start({ connect: (_port, _stream, answer) => answer(undefined) });
	}

	/** Opens the agent's port, and says hello. */
	async connect(version = VERSION): Promise<void> {
		const stream = await this.#attempt.call(`open(${PORT})`, () => this.host.open(PORT));
		const isStream = typeof stream?.write === "function" && typeof stream?.on === "function";
		if (!isStream) {
			this.#attempt.report.fail(
				`open(${PORT}) gives ${stream === undefined ? "undefined" : typeof stream}: the agent is refused`,
				"Return a Duplex of node:stream: what the guest sends is written to it, and what it reads is pushed by you",
			);
		}
		this.#stream = stream;
		stream.on("data", (bytes: Buffer) => {
			this.#received = Buffer.concat([this.#received, bytes]);
		});
		stream.on("error", () => undefined);
		this.send(frame({ type: "hello", version }));
	}

	send(bytes: Uint8Array): void {
		if (this.#stream?.destroyed === false) this.#stream.write(bytes);
	}

	/** The connection is gone. */
	disconnect(): void {
		this.#stream?.end();
		this.#stream?.destroy();
	}

	/** The next request of the host. */
	async request(what: string): Promise<Message> {
		const { report } = this.#attempt;
		for (let tries = 0; tries < 100; tries++) {
			const length = this.#received.length < 4 ? 0 : this.#received.readUInt32LE(0);
			if (length > 65_536) {
				this.#attempt.report.fail(
					`${what}: the host's frame begins with ${this.#received.toString("hex", 0, 4)}, a length of ${length}`,
					"The length is little-endian (writeUInt32LE), and counts the bytes of the JSON alone",
				);
			}
			if (length > 0 && this.#received.length >= 4 + length) {
				const text = this.#received.toString("utf8", 4, 4 + length);
				this.#received = this.#received.subarray(4 + length);
				try {
					return JSON.parse(text) as Message;
				} catch {
					this.#attempt.report.fail(
						`${what}: the host's frame of ${length} bytes is no JSON: ${quote(text)}`,
						"The length counts bytes, not characters: Buffer.from(text).length",
					);
				}
			}
			await sleep(5);
		}
		return report.fail(
			`${what}: the guest got no request of type "run"; it has received ${quote(this.#received.toString("latin1"))}`,
			'After the agent\'s hello, send { type: "run", id, command } by stream.push(frame)',
		);
	}
}

async function checkPorts(attempt: Attempt, type: AgentHostClass): Promise<void> {
	const guest = await attempt.call("AgentHost", () => new Guest(attempt, type));
	const other = await attempt.call("open(23)", () => guest.host.open(23));
	attempt.report.must(
		other === undefined,
		"a port on which nobody listens is refused",
		"open(23) gives a stream: the guest is connected to a port that this host does not have",
		"Return undefined for every port but 1024",
	);
	await guest.connect();
	attempt.report.right(`the agent is connected to port ${PORT}`);
	guest.disconnect();
}

const output = (id: number | undefined, text: string) => frame({ type: "output", id, text });
const exit = (id: number | undefined, status: number) => frame({ type: "exit", id, status });

const told = (result: Result) => `status ${result?.status} and output ${quote(String(result?.output))}`;

async function checkOne(attempt: Attempt, type: AgentHostClass): Promise<void> {
	const { report } = attempt;
	const guest = new Guest(attempt, type);
	await guest.connect();
	const command = "echo café";
	const running = attempt.settle(() => guest.host.run(command));
	const request = await guest.request("run");
	report.must(
		request.type === "run" && request.command === command && typeof request.id === "number",
		"run sends the guest a frame with type, id and command",
		`run sends ${JSON.stringify(request)}; { type: "run", id: a number, command: ${quote(command)} } was expected`,
	);
	guest.send(Buffer.concat([output(request.id, "café\n"), exit(request.id, 3)]));
	const result = attempt.unwrap(await running, "run");
	report.must(
		result?.status === 3 && result.output === "café\n",
		"two frames in one piece: run gives status 3 and the output",
		`output and exit came in one piece, and run gave ${told(result)}; status 3 and "café\\n" were expected`,
		"A piece of a stream may hold several frames: take frames off it until none is whole",
	);
	guest.disconnect();
}

async function checkPieces(attempt: Attempt, type: AgentHostClass): Promise<void> {
	const guest = new Guest(attempt, type);
	await guest.connect();
	const running = attempt.settle(() => guest.host.run("cat"));
	const { id } = await guest.request("run");
	for (const byte of Buffer.concat([output(id, "über"), output(id, " alles"), exit(id, 0)]))
		guest.send(Uint8Array.of(byte));
	const result = attempt.unwrap(await running, "run, when each byte comes alone,");
	attempt.report.must(
		result?.output === "über alles" && result.status === 0,
		"frames that come byte by byte are put together, also in the middle of a character",
		`frames came byte by byte, and run gave ${told(result)}; "über alles" was expected`,
		"Keep the bytes, not text, until a frame is whole",
	);
	guest.disconnect();
}

async function checkTwo(attempt: Attempt, type: AgentHostClass): Promise<void> {
	const guest = new Guest(attempt, type);
	await guest.connect();
	const both = attempt.settle(() => Promise.all([guest.host.run("first"), guest.host.run("second")]));
	const one = await guest.request("two runs at once");
	const two = await guest.request("two runs at once");
	attempt.report.must(
		one.id !== two.id,
		"two commands at once have two ids",
		`two commands at once have the same id, ${one.id}: their answers cannot be told apart`,
		"Count: each run takes the next number",
	);
	guest.send(
		Buffer.concat([output(one.id, "1"), output(two.id, "2"), exit(two.id, 2), output(one.id, "1"), exit(one.id, 1)]),
	);
	const results = attempt
		.unwrap(await both, "two runs at once, whose answers come mixed,")
		.map(told)
		.join("; ");
	const expected = 'status 1 and output "11"; status 2 and output "2"';
	attempt.report.must(
		results === expected,
		"their answers may come mixed",
		`their answers came mixed, and they gave ${results}; ${expected} was expected`,
		"Keep what belongs to a command by its id, in a Map",
	);
	guest.disconnect();
}

async function checkEarly(attempt: Attempt, type: AgentHostClass): Promise<void> {
	const guest = new Guest(attempt, type);
	const running = attempt.settle(() => guest.host.run("early"));
	await sleep(20);
	await guest.connect();
	const { id } = await guest.request("run, called before the agent was there");
	guest.send(exit(id, 0));
	attempt.unwrap(await running, "run, called before the agent was there,");
	attempt.report.right("a command that comes before the agent waits for it");
	guest.disconnect();
}

/** A guest that breaks off or breaks the rules. */
interface GuestEnd {
	readonly what: string;
	readonly advice: string;
	readonly version?: number;
	end(guest: Guest): void;
}

const ENDS: readonly GuestEnd[] = [
	{
		what: "the guest dies in the middle of a command",
		advice: "Reject what waits when the stream closes: the option destroy of Duplex is called then",
		end: (guest) => guest.disconnect(),
	},
	{
		what: "the agent speaks version 2",
		advice: "Look at the version in hello, and destroy the stream with an Error",
		version: 2,
		end: () => undefined,
	},
	{
		what: "a frame says that it has 4 GiB",
		advice: "Refuse a length of more than 64 KiB at once: do not wait for the bytes",
		end: (guest) => guest.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x7b)),
	},
	{
		what: "a frame holds no JSON",
		advice: "Catch the error of JSON.parse, and destroy the stream with it",
		end: (guest) => guest.send(Uint8Array.of(2, 0, 0, 0, 0x7b, 0x7b)),
	},
	{
		what: "a frame answers a command that nobody has sent, and then the guest dies",
		advice: "Ignore an id that is not in your Map",
		end: (guest) => {
			guest.send(exit(4711, 0));
			setTimeout(() => guest.disconnect(), 20);
		},
	},
];

async function checkEnd(
	attempt: Attempt,
	type: AgentHostClass,
	{ what, advice, version, end }: GuestEnd,
): Promise<void> {
	const { report } = attempt;
	const guest = new Guest(attempt, type);
	const running = guest.host.run("never").then(
		() => "resolved",
		(error: unknown) => (error instanceof Error ? "rejected" : "rejected without an Error"),
	);
	report.doing(`run, when ${what}`);
	const ending = await attempt.settle(async () => {
		await guest.connect(version);
		if (version === undefined) await guest.request("run");
		end(guest);
		return await Promise.race([running, sleep(1000, "waits", { ref: true })]);
	});
	const found = attempt.unwrap(ending, `AgentHost, when ${what},`);
	report.expect(
		found === "rejected",
		`when ${what}, run rejects with an Error`,
		`when ${what}, run ${found === "waits" ? "waits for ever" : found}; it should reject with an Error`,
		advice,
	);
}

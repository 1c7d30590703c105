/*
 * runOnMachine with the real agent and no VM: stdio, signals, exit statuses, early ends. The "machine" is the agent's
 * process; it ends with its stream, as a VM does after power-off.
 */
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { type Duplex, PassThrough, Readable, Writable } from "node:stream";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ExecSpec } from "../../src/agent/client.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { type ContainerStdio, type GuestMachine, runOnMachine } from "../../src/container/lifecycle.ts";
import { firstConnection } from "../../src/container/run.ts";
import type { MachineEnd } from "../../src/machine/ending.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
const agents: NativeAgent[] = [];

beforeAll(buildAgent);
afterEach(async () => {
	for (const agent of agents.splice(0)) await agent.stop();
});

/** A machine of a native agent; `end` lets it end as a guest would. */
class FakeMachine implements GuestMachine {
	readonly ended: Promise<MachineEnd>;
	readonly agent: Promise<Duplex>;
	end!: (end: MachineEnd) => void;
	#begin!: () => void;
	#socket: Socket | undefined;

	constructor() {
		this.ended = new Promise((resolve) => {
			this.end = (end) => {
				this.#socket?.destroy();
				resolve(end);
			};
		});
		this.agent = new Promise((resolve, reject) => {
			this.#begin = () => {
				const agent = new NativeAgent();
				agents.push(agent);
				agent.connect().then((socket) => {
					this.#socket = socket;
					resolve(socket);
				}, reject);
			};
		});
	}
	start(): void {
		this.#begin();
	}
	stop(): Promise<MachineEnd> {
		this.end({ reason: "stopped" });
		return this.ended;
	}
	consoleTail(): string {
		return "line one\nKernel panic - not syncing: test";
	}
}

class Collected extends Writable {
	readonly chunks: Buffer[] = [];
	override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		this.chunks.push(chunk);
		done();
	}
	get bytes(): Buffer {
		return Buffer.concat(this.chunks);
	}
}

function stdio(stdin?: Readable) {
	const handlers = new Set<(signal: number) => void>();
	const made = {
		stdout: new Collected(),
		stderr: new Collected(),
		...(stdin === undefined ? {} : { stdin }),
		onSignal: (handler: (signal: number) => void) => {
			handlers.add(handler);
			return () => handlers.delete(handler);
		},
	};
	return { made, handlers, send: (signal: number) => handlers.forEach((handler) => void handler(signal)) };
}

/** The agent refuses to power this machine off, so the fake ends once the payload is done. */
function run(args: string[], io: ContainerStdio, spec: Partial<ExecSpec> = {}, machine = new FakeMachine()) {
	return runOnMachine(endsWhenRefused(machine), [], { args, env, ...spec }, io);
}

function endsWhenRefused(machine: FakeMachine): FakeMachine {
	/* Stands for the VM that vanishes at POWEROFF: the first write of that frame type ends it. */
	const agent = machine.agent.then((stream) => {
		const write = stream.write.bind(stream) as (chunk: Buffer) => boolean;
		stream.write = ((chunk: Buffer) => {
			if (chunk[4] === 18) setImmediate(() => machine.end({ reason: "power-off" }));
			return write(chunk);
		}) as typeof stream.write;
		return stream;
	});
	agent.catch(() => undefined);
	return Object.assign(Object.create(machine) as FakeMachine, {
		agent,
		ended: machine.ended,
		start: () => machine.start(),
		stop: () => machine.stop(),
	});
}

describe("runOnMachine", () => {
	test("exit code 42 is the status, output comes byte-exact, times are told", async () => {
		const { made } = stdio();
		const { status, times } = await run(["sh", "-c", "printf 'a\\000b'; printf err >&2; exit 42"], made);
		expect(status).toBe(42);
		expect(made.stdout.bytes).toEqual(Buffer.from("a\0b"));
		expect(made.stderr.bytes.toString()).toBe("err");
		for (const ms of Object.values(times)) expect(ms).toBeGreaterThanOrEqual(0);
	});
	test("10 MiB of standard input pass through", async () => {
		const input = Buffer.alloc(10 << 20, "0123456789abcde\n");
		const { made } = stdio(Readable.from([input], { objectMode: false }));
		expect((await run(["cat"], made)).status).toBe(0);
		expect(made.stdout.bytes.equals(input)).toBe(true);
	});
	test("without standard input the payload reads end of file", async () => {
		expect((await run(["cat"], stdio().made)).status).toBe(0);
	});
	test("SIGTERM reaches the payload and becomes 143", async () => {
		const { made, send, handlers } = stdio();
		made.stdout.once("pipe", () => setTimeout(() => send(15), 100));
		expect((await run(["sleep", "60"], made)).status).toBe(143);
		expect(handlers.size).toBe(0);
	});
	test("a payload that handles SIGTERM decides its status itself", async () => {
		const { made, send } = stdio();
		const script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
		const ready = setInterval(() => {
			if (made.stdout.bytes.length === 0) return;
			clearInterval(ready);
			send(15);
		}, 10);
		expect((await run(["sh", "-c", script], made)).status).toBe(7);
	});
	test("the third SIGINT ends a payload that ignores them, with 130", async () => {
		const { made, send } = stdio();
		const script = "trap '' INT; echo ready; exec sleep 60";
		const ready = setInterval(() => {
			if (made.stdout.bytes.length === 0) return;
			clearInterval(ready);
			for (let i = 0; i < 3; i++) send(2);
		}, 10);
		await expect(run(["sh", "-c", script], made)).rejects.toMatchObject({ code: "ERR_INTERRUPTED", exitStatus: 130 });
	});
	test("a reader that reads nothing holds up the payload's output, not signals", async () => {
		const { made, send } = stdio();
		let ready: () => void = () => undefined;
		const stalled = new Promise<void>((resolve) => {
			ready = resolve;
		});
		const stdout = new Writable({ write: () => ready() });
		const running = run(["yes"], { ...made, stdout });
		await stalled;
		for (let i = 0; i < 3; i++) send(15);
		await expect(running).rejects.toMatchObject({ code: "ERR_INTERRUPTED", exitStatus: 143 });
	});
	test("127 and 126 are those of the agent", async () => {
		await expect(run(["nowhere"], stdio().made)).rejects.toMatchObject({ exitStatus: 127 });
		await expect(run(["/etc/passwd"], stdio().made)).rejects.toMatchObject({ exitStatus: 126 });
	});
	test("a terminal has the user's size, follows it, and is restored", async () => {
		const calls: string[] = [];
		let resized: () => void = () => undefined;
		let size = { columns: 100, rows: 30 };
		const { made } = stdio(new PassThrough());
		const terminal = {
			size: () => size,
			raw: () => void calls.push("raw"),
			restore: () => void calls.push("restore"),
			onResize: (handler: () => void) => {
				resized = handler;
				return () => void calls.push("off");
			},
		};
		const script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done";
		const ready = setInterval(() => {
			if (made.stdout.bytes.length === 0) return;
			clearInterval(ready);
			size = { columns: 90, rows: 20 };
			resized();
		}, 10);
		expect((await run(["sh", "-c", script], { ...made, terminal })).status).toBe(0);
		expect(made.stdout.bytes.toString()).toBe("30 100\r\n20 90\r\n");
		expect(calls.slice(0, 2)).toEqual(["raw", "off"]);
		expect(calls).toContain("restore");
	});
	test("a reader that goes away ends the payload with SIGPIPE", async () => {
		const { made } = stdio();
		const stdout = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
		expect((await run(["yes"], { ...made, stdout })).status).toBe(141);
	});
	test("a guest that panics is an error with the console's last lines", async () => {
		const machine = new FakeMachine();
		const { made } = stdio();
		made.stdout.once("pipe", () => machine.end({ reason: "panic", detail: "test" }));
		await expect(run(["sleep", "60"], made, {}, machine)).rejects.toMatchObject({
			code: "ERR_GUEST_PANIC",
			exitStatus: 125,
			message: expect.stringContaining("  | Kernel panic - not syncing: test"),
		});
	});
	test("a guest that ends before its agent connects is an error", async () => {
		const machine = new FakeMachine();
		machine.start = () => machine.end({ reason: "triple-fault" });
		await expect(run(["true"], stdio().made, {}, machine)).rejects.toMatchObject({ code: "ERR_GUEST_TRIPLE_FAULT" });
	});
	test("a signal before the payload runs ends the machine", async () => {
		const machine = new FakeMachine();
		const { made, send } = stdio();
		machine.start = () => setImmediate(() => send(15));
		await expect(run(["true"], made, {}, machine)).rejects.toMatchObject({ exitStatus: 143 });
	});
});

test("a folder for the payload is made where it is missing", async () => {
	const folder = mkdtempSync(`${tmpdir()}/tsvmm-run-`);
	mkdirSync(`${folder}/a`);
	const { made } = stdio();
	await run(["pwd"], made, { cwd: `${folder}/a/b/c` });
	expect(made.stdout.bytes.toString()).toBe(`${folder}/a/b/c\n`);
	rmSync(folder, { recursive: true });
});

test("firstConnection takes one connection of the guest; the port is closed to the next", async () => {
	const vsock = await UnixVsock.open();
	try {
		const first = firstConnection(vsock, 1024);
		const guest = await vsock.open(1024);
		guest!.write("hello");
		expect(String((await once(await first, "data"))[0])).toBe("hello");
		expect(await vsock.open(1024)).toBe(undefined);
	} finally {
		await vsock.close();
	}
});

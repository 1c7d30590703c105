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
import type { ExecSpec } from "../../src/agent/exec-spec.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { TsvmmError } from "../../src/base/errors.ts";
import { Container, type GuestMachine } from "../../src/container/container.ts";
import { runOnMachine } from "../../src/container/lifecycle.ts";
import { firstConnection, runContainer, signalNumber } from "../../src/container/run.ts";
import type { ForegroundStdio } from "../../src/host/foreground.ts";
import type { ShutdownReason } from "../../src/machine/shutdown-reason.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
const agents: NativeAgent[] = [];

beforeAll(buildAgent);
afterEach(async () => {
	for (const agent of agents.splice(0)) await agent.stop();
});

/** A machine of a native agent; `end` lets it end as a guest would. */
class FakeMachine implements GuestMachine {
	readonly ended: Promise<ShutdownReason>;
	readonly agent: Promise<Duplex>;
	end!: (end: ShutdownReason) => void;
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
	stop(): Promise<ShutdownReason> {
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
function run(args: string[], io: ForegroundStdio, spec: Partial<ExecSpec> = {}, machine = new FakeMachine()) {
	return runOnMachine(endsWhenRefused(machine), { steps: [], process: { args, env, ...spec } }, io);
}

/** The same below a process 1 that reaps, as with --init. */
function runBelowInit(args: string[], io: ForegroundStdio) {
	return runOnMachine(endsWhenRefused(new FakeMachine()), { steps: [], init: true, process: { args, env } }, io);
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
		expect((await runBelowInit(["sleep", "60"], made)).status).toBe(143);
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
		expect((await runBelowInit(["yes"], { ...made, stdout })).status).toBe(141);
	});
	test("a reader that goes away ends process 1, which hears no SIGPIPE, with SIGKILL", async () => {
		const { made } = stdio();
		const stdout = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
		expect((await run(["yes"], { ...made, stdout })).status).toBe(137);
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

test("a directory for the payload is made where it is missing", async () => {
	const directory = mkdtempSync(`${tmpdir()}/tsvmm-run-`);
	mkdirSync(`${directory}/a`);
	const { made } = stdio();
	await run(["pwd"], made, { cwd: `${directory}/a/b/c` });
	expect(made.stdout.bytes.toString()).toBe(`${directory}/a/b/c\n`);
	rmSync(directory, { recursive: true });
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

describe("Container", () => {
	const start = (args: string[], more: { signal?: AbortSignal; stopSignal?: number; init?: boolean } = {}) =>
		Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process: () => ({ args, env }), ...more });
	const text = async (stream: Readable) => Buffer.concat(await stream.toArray()).toString();

	test("has streams, an exit status, and ends with its process", async () => {
		const container = await start(["sh", "-c", "cat; echo err >&2; exit 3"]);
		container.stdin.end("in");
		expect(await Promise.all([text(container.stdout), text(container.stderr)])).toEqual(["in", "err\n"]);
		expect(await container.exit).toEqual({ code: 3 });
		expect(await container.ended).toEqual({ reason: "power-off" });
	});
	test("runs more processes, in its own namespaces and with its environment", async () => {
		await using container = await start(["sleep", "100"], { init: true });
		const one = await container.exec({ args: ["sh", "-c", "echo $$; exit 5"] });
		expect(Number(await text(one.stdout))).toBeLessThan(20);
		expect(await one.exit).toEqual({ code: 5 });
		await expect(container.exec({ args: ["nowhere"] })).rejects.toMatchObject({ exitStatus: 127 });
		const long = await container.exec({ args: ["sleep", "100"] });
		container.kill("SIGTERM");
		expect(await container.exit).toEqual({ signal: 15 });
		await expect(long.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
		await container.ended;
		await expect(container.exec({ args: ["true"] })).rejects.toBeInstanceOf(TsvmmError);
	});
	test("its process is process 1, which ignores what it does not handle and takes all others with it", async () => {
		await using container = await start(["sh", "-c", "echo $$; exec sleep 100"]);
		expect(String((await once(container.stdout, "data"))[0])).toBe("1\n");
		container.kill("SIGTERM");
		const other = await container.exec({ args: ["sleep", "100"] });
		container.kill("SIGKILL");
		expect(await container.exit).toEqual({ signal: 9 });
		expect(await other.exit).toEqual({ signal: 9 });
	});
	test("resize tells the process's terminal its new size", async () => {
		const script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done";
		const process = () => ({ args: ["sh", "-c", script], env, tty: { columns: 100, rows: 30 } });
		await using container = await Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process });
		const first = String((await once(container.stdout, "data"))[0]);
		container.resize(90, 20);
		expect(first + (await text(container.stdout))).toBe("30 100\r\n20 90\r\n");
		expect(await container.exit).toEqual({ code: 0 });
	});
	test("with init its process is below a process 1 that reaps", async () => {
		await using container = await start(["sh", "-c", "echo $$"], { init: true });
		expect(await text(container.stdout)).toMatch(/^[2-9]\n/);
		expect(await container.exit).toEqual({ code: 0 });
	});
	test("exec bounds a process as the container's own, unless it is privileged", async () => {
		const own = { capabilities: 0x20n, groups: ["4242"], rlimits: [{ name: "nofile", soft: 77, hard: 77 }] };
		const process = () => ({ args: ["sleep", "100"], env, ...own });
		await using container = await Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process });
		const script = "sed -n 's/^CapEff:.0*//p' /proc/self/status; id -G; ulimit -n";
		const bound = await container.exec({ args: ["sh", "-c", script] });
		expect(await text(bound.stdout)).toBe("20\n0 4242\n77\n");
		const free = await container.exec({ args: ["sh", "-c", script], privileged: true });
		expect(await text(free.stdout)).toMatch(/^1f\w+\n0 4242\n77\n$/);
	});
	test("an abort ends a process that exec started, and nothing else", async () => {
		await using container = await start(["sleep", "100"]);
		const abort = new AbortController();
		const session = await container.exec({ args: ["sleep", "100"], signal: abort.signal });
		abort.abort();
		expect(await session.exit).toEqual({ signal: 1 });
		await expect(container.exec({ args: ["true"], signal: abort.signal })).rejects.toBe(abort.signal.reason);
		expect(await (await container.exec({ args: ["true"] })).exit).toEqual({ code: 0 });
	});
	test("stop sends the stop signal, and kills what does not mind", async () => {
		const orderly = await start(["sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done"], {
			stopSignal: 10,
		});
		await once(orderly.stdout, "data");
		await orderly.stop();
		expect(await orderly.exit).toEqual({ code: 9 });
		const stubborn = await start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"]);
		await once(stubborn.stdout, "data");
		await stubborn.stop({ timeoutMs: 50 });
		expect(await stubborn.exit).toEqual({ signal: 9 });
	});
	test("an abort ends it with the reason, before its process runs and after", async () => {
		const reason = new Error("enough");
		await expect(start(["true"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
		const abort = new AbortController();
		const container = await start(["sleep", "100"], { signal: abort.signal });
		abort.abort(reason);
		await expect(container.exit).rejects.toBe(reason);
		await container.ended;
	});
	test("a slow reader gets all output after the machine is gone", async () => {
		const container = await start(["sh", "-c", "head -c 200000 /dev/zero"]);
		await container.ended;
		expect((await text(container.stdout)).length).toBe(200_000);
	});
});

test("runContainer wants an image or a root file system", async () => {
	await expect(runContainer({ args: ["true"] })).rejects.toMatchObject({ code: "ERR_RUN_ROOT" });
});

test.each([
	["SIGQUIT", 3],
	["QUIT", 3],
	["15", 15],
	["SIGNONE", undefined],
	[undefined, undefined],
])("signalNumber reads %s as %s", (words, number) => {
	expect(signalNumber(words)).toBe(number);
});

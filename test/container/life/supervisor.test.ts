/*
 * A container from its directory to its end, with the real agent and no VM: the supervisor, attached clients, stdio,
 * signals, exit statuses, early ends.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { PassThrough, Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { Faults } from "../../../src/base/faults.ts";
import { attachForeground } from "../../../src/cli/container/foreground.ts";
import {
	execDetached,
	execInContainer,
	killContainer,
	pauseContainer,
	removeContainer,
	stopContainer,
	unpauseContainer,
	waitForContainer,
} from "../../../src/container/life/commands.ts";
import type { ContainerConfig } from "../../../src/container/life/config.ts";
import { readLog } from "../../../src/container/life/log-reader.ts";
import { Notes } from "../../../src/container/life/notes.ts";
import { ContainerStore, type StoredContainer } from "../../../src/container/life/store.ts";
import { superviseContainer } from "../../../src/container/life/supervisor.ts";
import type { ForegroundStdio } from "../../../src/host/foreground.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { endsWhenRefused, FakeMachine, stopAgents } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";
import { env, start } from "./started-container.ts";

const store = new ContainerStore();

beforeAll(buildAgent);
afterEach(async () => {
	for (const container of store.list()) await removeContainer(container, { force: true });
	await stopAgents();
});

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

/** Runs a container in the foreground. */
async function run(
	args: string[],
	io: ForegroundStdio,
	process: Partial<ContainerConfig["process"]> = {},
	machine = new FakeMachine(),
) {
	const streams = { tty: io.terminal !== undefined, openStdin: io.stdin !== undefined, stdinOnce: true };
	const container = await store.create(containerConfig({ args, env, ...streams, ...process }));
	let ended: Promise<void> | undefined;
	let onListening!: () => void;
	const listening = new Promise<void>((resolve) => {
		onListening = resolve;
	});
	const running = new Promise<void>((resolve, reject) => {
		ended = superviseContainer(container, {
			awaitAttach: true,
			timings: true,
			onListening,
			onReady: (error) => (error === undefined ? resolve() : reject(error)),
			boot: async () => ({
				guest: endsWhenRefused(machine),
				machine: { pause: async () => undefined, resume: () => undefined },
				steps: [],
			}),
		});
	});
	try {
		await listening;
		expect([container.isSupervised(), existsSync(container.paths.attach)]).toEqual([true, true]);
		const status = await attachForeground(container, running, io);
		return { status, container };
	} finally {
		await ended;
	}
}

test("notes of the machine come from before its start to its end, and a restart has none", async () => {
	const seen = new PassThrough();
	const notes = new Notes({ trace: ["boot", "agent"] }, seen);
	const container = await store.create(
		containerConfig({ args: ["false"], env }, { restart: { name: "on-failure", maximumRetryCount: 1 } }),
	);
	const faults = new Faults([{ device: "root", event: "read", effect: "io-error" }], { seed: 7 });
	let starts = 0;
	await superviseContainer(container, {
		awaitAttach: false,
		onReady: () => undefined,
		notes,
		boot: async (_container, _signal, { observer }) => {
			observer?.machine?.({ state: "panic", detail: `start ${++starts}` });
			observer?.console?.("serial", Buffer.from("left out, and no phase of a boot\n"));
			return {
				guest: endsWhenRefused(new FakeMachine()),
				machine: { pause: async () => undefined, resume: () => undefined },
				steps: [],
				faults,
			};
		},
	});
	expect(starts).toBe(2);
	expect((await text(seen)).replaceAll(/trace: [\d.]+/g, "trace: T").split("\n")).toEqual([
		"trace: T machine panic: start 1",
		"tsvmm: fault root:read:io-error hit 0 of 0",
		"tsvmm: fault seed 7: --fault-seed 7 gives the same faults again",
		"",
	]);
});

/** As run, with process 1 that only reaps. */
const runBelowInit = (args: string[], io: ForegroundStdio) => run(args, io, { init: true });

describe("a container in the foreground", () => {
	test("exit code 42 is the status, output comes byte-exact, times are told", async () => {
		const { made } = stdio();
		const { status, container } = await run(["sh", "-c", "printf 'a\\000b'; printf err >&2; exit 42"], made);
		expect(status).toBe(42);
		expect(made.stdout.bytes).toEqual(Buffer.from("a\0b"));
		expect(made.stderr.bytes.toString()).toBe("err");
		const { marks, exitCode } = container.state();
		expect(exitCode).toBe(42);
		const names = ["exec", "node"].map((name) => `supervisor ${name}`);
		const guest = ["start", "agent", "kernel", "setup", "mounts", "payload"];
		expect(marks!.map(({ name }) => name)).toEqual([...names, "supervisor", ...guest]);
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

const logOf = async ({ paths }: StoredContainer) => {
	const texts: string[] = [];
	for await (const { log } of readLog(paths.log)) texts.push(log);
	return texts;
};

describe("a container in the background", () => {
	test("writes its log, and tells its status to all who ask", async () => {
		const { container, ended } = await start(["sh", "-c", "echo out; echo err >&2; exit 3"]);
		expect(await waitForContainer(container)).toBe(3);
		expect(await waitForContainer(container)).toBe(3);
		expect(container.state()).toMatchObject({ status: "exited", exitCode: 3, pid: 0 });
		expect((await logOf(container)).sort()).toEqual(["err\n", "out\n"]);
		await removeContainer(container);
		/* Although its supervisor had still to end when `wait` was answered. */
		await ended;
		expect(existsSync(container.paths.directory) || existsSync(container.paths.sockets)).toBe(false);
	});
	test("is stopped by its stop signal, and killed when it does not mind", async () => {
		const script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done";
		const orderly = await start(["sh", "-c", script], { more: { stopSignal: 10 } });
		await expect.poll(() => logOf(orderly.container)).toEqual(["ready\n"]);
		expect(await stopContainer(orderly.container)).toBe(true);
		expect(orderly.container.state()).toMatchObject({ status: "exited", exitCode: 9, stoppedByUser: true });
		expect(await stopContainer(orderly.container)).toBe(false);
		const stubborn = await start(["sleep", "100"]);
		await stopContainer(stubborn.container, { timeoutMs: 50 });
		expect(stubborn.container.state()).toMatchObject({ status: "exited", exitCode: 137 });
	});
	test("has as long to end as its time-out says, however long or without end that is", async () => {
		for (const timeoutMs of [1e10, -1000]) {
			const script = "trap 'sleep 0.3; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
			const { container } = await start(["sh", "-c", script]);
			await expect.poll(() => logOf(container)).toEqual(["ready\n"]);
			await stopContainer(container, { timeoutMs });
			expect(container.state()).toMatchObject({ status: "exited", exitCode: 9 });
		}
	});
	test("hears signals, and answers more commands with its environment while it runs and is not paused", async () => {
		const script = "trap 'echo heard' USR1; echo ready; while :; do sleep 0.02; done";
		const { container, calls } = await start(["sh", "-c", script], { process: { env: [...env, "COLOUR=green"] } });
		await expect.poll(() => logOf(container)).toEqual(["ready\n"]);
		await killContainer(container, 10);
		await expect.poll(() => logOf(container)).toEqual(["ready\n", "heard\n"]);
		const session = await execInContainer(container, { args: ["sh", "-c", "echo $$; exit 5"], env });
		expect(Number(Buffer.concat(await session.stdout.toArray()).toString())).toBeGreaterThan(1);
		expect(await session.exit).toEqual({ code: 5 });
		await expect(execInContainer(container, { args: ["nowhere"], env })).rejects.toMatchObject({ exitStatus: 127 });
		await pauseContainer(container);
		expect(container.state().status).toBe("paused");
		await expect(execInContainer(container, { args: ["true"] })).rejects.toMatchObject({
			code: "ERR_CONTAINER_NOT_RUNNING",
		});
		await expect(pauseContainer(container)).rejects.toMatchObject({ code: "ERR_CONTAINER_NOT_RUNNING" });
		await unpauseContainer(container);
		expect(calls).toEqual(["pause", "resume"]);
		await killContainer(container, 9);
		expect(container.state()).toMatchObject({ status: "exited", exitCode: 137 });
		await expect(killContainer(container, 9)).rejects.toMatchObject({ code: "ERR_CONTAINER_NOT_RUNNING" });
		await expect(execInContainer(container, { args: ["true"] })).rejects.toMatchObject({
			code: "ERR_CONTAINER_NOT_RUNNING",
		});
	});
	test("leaves a command that is detached to itself", async () => {
		const { container } = await start(["sleep", "100"]);
		const path = `${container.paths.directory}/made`;
		await execDetached(container, { args: ["sh", "-c", `sleep 0.1; echo done >${path}`], env, tty: false });
		await expect.poll(() => existsSync(path)).toBe(true);
		await removeContainer(container, { force: true });
		expect(existsSync(container.paths.directory)).toBe(false);
	});
	test("that cannot be started stays created, with why", async () => {
		await expect(start(["nowhere"])).rejects.toMatchObject({ exitStatus: 127 });
		const [container] = store.list();
		expect(container!.state()).toMatchObject({
			status: "created",
			exitCode: 127,
			error: { code: "ERR_EXEC_NOT_FOUND", exitStatus: 127 },
		});
	});
	test("is owned by one supervisor alone", async () => {
		const { container } = await start(["sleep", "100"]);
		await expect(superviseContainer(container, { awaitAttach: false, onReady: () => undefined })).rejects.toMatchObject(
			{
				code: "ERR_CONTAINER_RUNNING",
			},
		);
		await expect(removeContainer(container)).rejects.toMatchObject({ code: "ERR_CONTAINER_RUNNING" });
		await stopContainer(container, { timeoutMs: 0 });
	});
	test("is started again by its policy, so often and no more, and never once it was stopped", async () => {
		const failing = await start(["sh", "-c", "echo run; exit 4"], {
			more: { restart: { name: "on-failure", maximumRetryCount: 2 } },
		});
		await failing.ended;
		expect(failing.container.state()).toMatchObject({ status: "exited", exitCode: 4, restartCount: 2 });
		expect(await logOf(failing.container)).toEqual(["run\n", "run\n", "run\n"]);
		const always = await start(["true"], { more: { restart: { name: "always", maximumRetryCount: 0 } } });
		await expect.poll(() => always.container.state().restartCount, { timeout: 10_000 }).toBeGreaterThan(0);
		await stopContainer(always.container, { timeoutMs: 0 });
		await always.ended;
		expect(always.container.state().status).toBe("exited");
	}, 30_000);
	test("is checked by its health command, and what that says is its state", async () => {
		const directory = mkdtempSync(`${tmpdir()}/tsvmm-health-`);
		const health = {
			args: ["sh", "-c", `test -e ${directory}/well`],
			intervalMs: 30,
			timeoutMs: 5000,
			retries: 2,
			startPeriodMs: 0,
		};
		const { container } = await start(["sleep", "100"], { more: { health } });
		const status = () => container.state().health?.status;
		await expect.poll(status, { timeout: 10_000 }).toBe("unhealthy");
		writeFileSync(`${directory}/well`, "");
		await expect.poll(status, { timeout: 10_000 }).toBe("healthy");
		rmSync(directory, { recursive: true });
		await expect.poll(status, { timeout: 10_000 }).toBe("unhealthy");
		await stopContainer(container, { timeoutMs: 0 });
	}, 40_000);
	test("whose health command takes too long is unhealthy", async () => {
		const health = { args: ["sleep", "100"], intervalMs: 10, timeoutMs: 50, retries: 1, startPeriodMs: 0 };
		const { container } = await start(["sleep", "100"], { more: { health } });
		await expect.poll(() => container.state().health?.status, { timeout: 10_000 }).toBe("unhealthy");
		await stopContainer(container, { timeoutMs: 0 });
	});
	test("is removed at its end when it is to be", async () => {
		const { container, ended } = await start(["true"], { more: { autoRemove: true } });
		await ended;
		expect(existsSync(container.paths.directory)).toBe(false);
		expect(store.list()).toEqual([]);
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

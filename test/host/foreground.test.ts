import { constants } from "node:os";
import { PassThrough, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { FORWARDED_SIGNALS } from "../../src/base/signals.ts";
import { attach, type ForegroundStdio, type ForegroundTerminal, ownStdio } from "../../src/host/foreground.ts";

/** A process whose streams are plain; `end` ends it with a status. */
class FakeProcess {
	readonly stdin = new PassThrough();
	readonly stdout = new PassThrough();
	readonly stderr = new PassThrough();
	readonly sizes: [number, number][] = [];
	end!: (status: number) => void;
	fail!: (error: Error) => void;
	readonly exit = new Promise<number>((resolve, reject) => {
		this.end = (status) => {
			this.stdout.end();
			this.stderr.end();
			resolve(status);
		};
		this.fail = reject;
	});
	resize(columns: number, rows: number): void {
		this.sizes.push([columns, rows]);
	}
}

function stdio(more: Partial<ForegroundStdio> = {}) {
	return { stdout: new PassThrough(), stderr: new PassThrough(), onSignal: () => () => undefined, ...more };
}

describe("attach", () => {
	test("passes bytes both ways and resolves with the status once the output is written", async () => {
		const process = new FakeProcess();
		const stdin = new PassThrough();
		const [stdout, stderr] = [new PassThrough(), new PassThrough()];
		const done = attach(process, stdio({ stdin, stdout, stderr }), () => undefined);
		stdin.end("in");
		expect(await text(process.stdin)).toBe("in");
		process.stdout.write("out");
		process.stderr.write("err");
		process.end(7);
		expect(await done).toBe(7);
		expect([stdout.read(), stderr.read()].map(String)).toEqual(["out", "err"]);
		expect(stdin.listenerCount("data")).toBe(0);
	});

	test("output that cannot be written is told once, and the rest of it is dropped", async () => {
		const process = new FakeProcess();
		const stdout = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
		let told = 0;
		const done = attach(process, stdio({ stdout }), () => {
			told++;
			process.end(141);
		});
		process.stdout.write("nobody reads this");
		expect(await done).toBe(141);
		expect(told).toBe(1);
		expect(process.stdout.destroyed).toBe(true);
	});

	test("passes on the terminal's size when it changes, and no longer than the process runs", async () => {
		const process = new FakeProcess();
		const handlers = new Set<() => void>();
		const terminal: ForegroundTerminal = {
			size: () => ({ columns: 100, rows: 30 }),
			raw: () => undefined,
			restore: () => undefined,
			onResize: (handler) => {
				handlers.add(handler);
				return () => handlers.delete(handler);
			},
		};
		const done = attach(process, stdio({ terminal }), () => undefined);
		for (const handler of handlers) handler();
		process.end(0);
		await done;
		expect(process.sizes).toEqual([[100, 30]]);
		expect(handlers.size).toBe(0);
	});

	test("rejects as the process's exit does", async () => {
		const process = new FakeProcess();
		const done = attach(process, stdio(), () => undefined);
		process.fail(new Error("the agent is lost"));
		await expect(done).rejects.toThrow("the agent is lost");
	});
});

describe("ownStdio", () => {
	const { SIGWINCH, SIGPIPE, SIGUSR2 } = constants.signals;
	const heard = (options: Parameters<typeof ownStdio>[0]) => {
		const before = new Map(process.eventNames().map((name) => [name, process.listenerCount(name)]));
		const stop = ownStdio(options).onSignal(() => undefined);
		const signals = process.eventNames().filter((name) => process.listenerCount(name) > (before.get(name) ?? 0));
		stop();
		expect(process.eventNames().filter((name) => process.listenerCount(name) > (before.get(name) ?? 0))).toEqual([]);
		return signals.map((name) => constants.signals[name as NodeJS.Signals]);
	};

	test("forwards what docker run does, and SIGWINCH where it is no terminal's size", () => {
		const forwarded = FORWARDED_SIGNALS.map((name) => constants.signals[name]);
		const streams = { stdin: false, stdout: new PassThrough(), stderr: new PassThrough() };
		expect(heard({ ...streams, tty: false })).toEqual([...forwarded, SIGWINCH]);
		expect(heard({ ...streams, tty: true })).toEqual(forwarded);
		expect(heard({ ...streams, tty: true, alsoForward: ["SIGPIPE"] })).toEqual([...forwarded, SIGPIPE]);
	});

	test("tells of a signal by its number until it is told to stop", async () => {
		const numbers: number[] = [];
		const stop = ownStdio({ stdin: false, tty: false }).onSignal((signal) => numbers.push(signal));
		process.kill(process.pid, "SIGUSR2");
		await expect.poll(() => numbers).toEqual([SIGUSR2]);
		stop();
	});
});

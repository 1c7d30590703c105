import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { expect, test } from "vitest";
import { StreamConsole } from "../../src/backends/stream-console.ts";

/** Events as lines. */
function recorder() {
	const log: string[] = [];
	return {
		log,
		events: {
			input: (bytes: Uint8Array) => void log.push(`input ${Buffer.from(bytes)}`),
			writable: () => void log.push("writable"),
			resized: (columns: number, rows: number) => void log.push(`resized ${columns}x${rows}`),
		},
	};
}

test("StreamConsole copies output at once and says when there is room again", async () => {
	let out = "";
	let more: (() => void) | undefined;
	const output = new Writable({
		highWaterMark: 8,
		write: (chunk, _encoding, done) => {
			out += chunk;
			more = done;
		},
	});
	const console = new StreamConsole({ output });
	const { log, events } = recorder();
	console.start(events);
	const guest = Buffer.from("1234");
	expect(console.write(guest)).toBe(true);
	const later = Buffer.from("56789");
	expect(console.write(later)).toBe(false);
	later.fill(0);
	expect(log).toEqual([]);
	const drained = once(output, "drain");
	more?.();
	await new Promise((resolve) => setImmediate(resolve));
	more?.();
	await drained;
	expect(out).toBe("123456789");
	expect(log).toEqual(["writable"]);
	await console.close();
});

test("StreamConsole passes input on, and holds it back when asked to", async () => {
	const input = new PassThrough();
	const console = new StreamConsole({ output: new PassThrough(), input });
	const { log, events } = recorder();
	console.start(events);
	input.write("one");
	await new Promise((resolve) => setImmediate(resolve));
	console.setInputWanted(false);
	input.write("two");
	await new Promise((resolve) => setImmediate(resolve));
	expect(log).toEqual(["input one"]);
	console.setInputWanted(true);
	await new Promise((resolve) => setImmediate(resolve));
	expect(log).toEqual(["input one", "input two"]);
	await console.close();
	expect(input.listenerCount("data")).toBe(0);
	expect(input.isPaused()).toBe(true);
});

test("StreamConsole drops output when its reader has gone away", async () => {
	const output = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
	const console = new StreamConsole({ output });
	const { log, events } = recorder();
	console.start(events);
	console.write(Buffer.from("lost"));
	await new Promise((resolve) => setImmediate(resolve));
	expect(log).toEqual(["writable"]);
	expect(console.write(Buffer.from("lost too"))).toBe(true);
	await console.close();
});

test("StreamConsole tells of a new size, and of nothing after close", async () => {
	const console = new StreamConsole({ output: new PassThrough(), size: { columns: 80, rows: 25 } });
	const { log, events } = recorder();
	console.start(events);
	console.resize(132, 43);
	expect(console.size).toEqual({ columns: 132, rows: 43 });
	await console.close();
	console.resize(1, 1);
	expect(log).toEqual(["resized 132x43"]);
});

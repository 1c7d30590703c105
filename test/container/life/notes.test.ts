/* What a supervisor tells the command that stays with it, and how the command prints it. */
import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { Faults } from "../../../src/base/faults.ts";
import { PrintedNotes } from "../../../src/cli/container/printed-notes.ts";
import { Notes } from "../../../src/container/life/notes.ts";

describe("Notes", () => {
	test("say lines until the end, and not after it", async () => {
		const stream = new PassThrough();
		const notes = new Notes({}, stream);
		notes.say("one");
		notes.say("two");
		notes.end();
		notes.say("three");
		notes.end();
		expect(await text(stream)).toBe("one\ntwo\n");
	});
	test("count what a slow reader misses, and hold no more than a limit", async () => {
		const stream = new PassThrough();
		const notes = new Notes({}, stream);
		for (let i = 0; i < 40; i++) notes.say("x".repeat(1 << 20));
		expect(stream.writableLength).toBeLessThan(20 << 20);
		const all = text(stream);
		await once(stream, "drain");
		notes.say("again");
		notes.end();
		const lines = (await all).split("\n");
		const told = /^tsvmm: (\d+) lines are missing: they came faster than they went$/.exec(lines.at(-3)!);
		expect(lines.length - 3 + Number(told?.[1])).toBe(40);
		expect(lines.at(-2)).toBe("again");
	});
	test("bear a reader that has gone", async () => {
		const stream = new PassThrough();
		const notes = new Notes({}, stream);
		stream.destroy(new Error("EPIPE"));
		notes.say("to nobody");
		notes.end();
	});
	test("tell what faults did, unless they are to be quiet", async () => {
		const faults = new Faults([{ device: "root", event: "read", effect: "io-error" }], { seed: 1 });
		const told = async (quiet: boolean) => {
			const stream = new PassThrough();
			const notes = new Notes({ quiet }, stream);
			notes.tell(faults);
			notes.end();
			return text(stream);
		};
		expect(await told(true)).toBe("");
		expect(await told(false)).toMatch(/^tsvmm: fault root:read:io-error hit 0 of 0\ntsvmm: fault seed 1: .*\n$/);
	});
	test("observe only for a trace", async () => {
		expect(await new Notes({}, new PassThrough()).observer()).toBeUndefined();
		expect(Object.keys((await new Notes({ trace: ["boot"] }, new PassThrough()).observer())!)).toContain("machine");
	});
});

describe("PrintedNotes", () => {
	class Terminal extends Writable {
		readonly writes: string[] = [];
		override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
			this.writes.push(chunk.toString());
			setImmediate(done);
		}
	}
	test("print whole lines, with what a raw terminal needs, and finish with the stream", async () => {
		const terminal = new Terminal();
		const stream = new PassThrough();
		const printed = new PrintedNotes(terminal, "\r\n");
		printed.follow(stream);
		stream.write("one\ntw");
		await new Promise((resolve) => setTimeout(resolve, 10));
		expect(terminal.writes).toEqual(["one\r\n"]);
		stream.end("o\nthree\n");
		await printed.finished();
		expect(terminal.writes.join("")).toBe("one\r\ntwo\r\nthree\r\n");
	});
	test("finish when nothing comes any more, as after the detach keys, and let go of the stream", async () => {
		const terminal = new Terminal();
		const stream = new PassThrough();
		const printed = new PrintedNotes(terminal, "\n");
		printed.follow(stream);
		stream.write("one\n");
		await printed.finished();
		expect(terminal.writes).toEqual(["one\n"]);
		expect(stream.destroyed).toBe(true);
	});
	test("finish when there was no supervisor, and when nobody reads", async () => {
		await new PrintedNotes(new Terminal(), "\n").finished();
		const terminal = new Terminal().on("error", () => undefined);
		terminal.destroy();
		const stream = new PassThrough();
		const printed = new PrintedNotes(terminal, "\n");
		printed.follow(stream);
		stream.end("one\n");
		await printed.finished();
		expect(terminal.writes).toEqual([]);
	});
});

/*
 * --detach-keys: which keys the text names, and what of the input is passed on.
 */
import { expect, test } from "vitest";
import { DetachKeys, readDetachKeys } from "../../src/cli/detach-keys.ts";

test("readDetachKeys reads characters and control keys", () => {
	expect([...readDetachKeys("ctrl-p,ctrl-q")]).toEqual([16, 17]);
	expect([...readDetachKeys("ctrl-@,ctrl-[,ctrl-\\\\,ctrl-],ctrl-^,ctrl-_,a,Z,~".replace("\\\\", "\\"))]).toEqual([
		...[0, 27, 28, 29, 30, 31, 97, 90, 126],
	]);
	for (const text of ["", "ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p,"]) {
		expect(() => readDetachKeys(text), text).toThrow(expect.objectContaining({ code: "ERR_DETACH_KEYS" }));
	}
});

/** What is passed on, and how often the keys were there. */
function type(keys: string, ...chunks: string[]): { passed: string; detached: number } {
	let detached = 0;
	const filter = new DetachKeys(readDetachKeys(keys), () => detached++);
	for (const chunk of chunks) filter.write(chunk);
	return { passed: String(filter.read() ?? ""), detached };
}

test("DetachKeys passes on all but the keys, wherever the input is cut", () => {
	expect(type("a,a,b", "xaaab", "rest")).toEqual({ passed: "xa", detached: 1 });
	expect(type("ctrl-p,ctrl-q", "one\x10two", "\x10", "\x11", "more")).toEqual({ passed: "one\x10two", detached: 1 });
	expect(type("ctrl-p,ctrl-q", "\x10\x10x")).toEqual({ passed: "\x10\x10x", detached: 0 });
	expect(type("ctrl-p,ctrl-q", "\x11\x10")).toEqual({ passed: "\x11", detached: 0 });
});

test("DetachKeys passes on what it has held back when the input ends", async () => {
	const filter = new DetachKeys(readDetachKeys("a,b"), () => undefined);
	filter.end("xa");
	expect(Buffer.concat(await filter.toArray()).toString()).toBe("xa");
});

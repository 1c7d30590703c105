/*
 * readText bounds what a guest makes this process keep.
 */
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { readText } from "../../src/agent/read-text.ts";

test("readText has all of a short text, also of characters that came in parts", async () => {
	const bytes = Buffer.from("größer\n");
	expect(await readText(Readable.from([bytes.subarray(0, 3), bytes.subarray(3)], { objectMode: false }))).toBe(
		"größer\n",
	);
});

test("readText drops what is too much, and reads it all the same", async () => {
	const chunk = Buffer.alloc(300_000, "x");
	const stream = Readable.from([chunk, chunk, chunk, chunk, chunk], { objectMode: false });
	expect((await readText(stream)).length).toBe(1 << 20);
	expect(stream.readableEnded).toBe(true);
});

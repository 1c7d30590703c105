import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { duplexPair } from "../../src/backends/duplex-pair.ts";

/** All of a stream; unlike `for await` this leaves its other half alone. */
function all(stream: Duplex): Promise<Buffer> {
	const chunks: Buffer[] = [];
	stream.on("data", (chunk) => chunks.push(chunk));
	return new Promise((resolve) => stream.once("end", () => resolve(Buffer.concat(chunks))));
}

test("duplexPair carries bytes both ways and ends each half on its own", async () => {
	const [one, other] = duplexPair();
	const [there, back] = [randomBytes(300_000), randomBytes(200_000)];
	one.end(there);
	expect((await all(other)).equals(there)).toBe(true);
	expect([one.destroyed, other.writable]).toEqual([false, true]);
	other.end(back);
	expect((await all(one)).equals(back)).toBe(true);
	await turn();
	expect([one.destroyed, other.destroyed]).toEqual([true, true]);
});

test("duplexPair makes a writer wait for its reader", async () => {
	const [one, other] = duplexPair();
	let taken = 0;
	for (let i = 0; i < 100; i++) one.write(Buffer.alloc(10_000), () => taken++);
	await turn();
	expect(taken).toBeLessThan(10);
	expect(other.readableLength).toBeLessThan(100_000);
	other.resume();
	while (taken < 100) await turn();
	one.destroy();
});

test("duplexPair destroys the other end with one that had not ended", async () => {
	const [one, other] = duplexPair();
	one.write("unread");
	one.destroy();
	await turn();
	expect(other.destroyed).toBe(true);
});

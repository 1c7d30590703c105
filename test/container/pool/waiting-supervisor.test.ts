/*
 * A machine that waits for an order: whose it becomes, and when it is nobody's.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Order, TAKEN } from "../../../src/container/pool/protocol.ts";
import { firstTaker } from "../../../src/container/pool/waiting-supervisor.ts";
import { controlGroups } from "../../../src/host/inheritance.ts";
import { connectTo } from "../../../src/host/request-socket.ts";
import type { ShutdownReason } from "../../../src/machine/shutdown-reason.ts";

let directory: string;
let path: string;
let abort: AbortController;
let end: (reason: ShutdownReason) => void;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-wait-"));
	path = join(directory, "1.sock");
	abort = new AbortController();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const order = (id: string): Order => ({
	...{ id, awaitAttach: false, timings: false },
	...{ env: {}, umask: 0o22, groups: controlGroups() },
});

/** Resolves when it listens. */
async function wait() {
	const pool = new PassThrough();
	const ended = new Promise<ShutdownReason>((resolve) => {
		end = resolve;
	});
	const given = firstTaker(path, { ended }, { pool: pool as unknown as Socket, signal: abort.signal });
	given.catch(() => undefined);
	expect(String((await pool.iterator().next()).value)).toBe("ready\n");
	return { given };
}

/** What a taker is told first; "" when it is refused. */
async function take(given: unknown): Promise<string> {
	const socket = await connectTo(path);
	if (socket === undefined) return "";
	socket.end(typeof given === "string" ? given : JSON.stringify(given));
	return await new Promise((resolve) => {
		socket.on("error", () => undefined);
		socket.once("data", (said) => resolve(String(said)));
		socket.once("close", () => resolve(""));
	});
}

test("of many takers at the same time one has the machine", async () => {
	const waiting = await wait();
	const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => take(order(`${i}`))));
	expect(answers.filter((answer) => answer === TAKEN)).toHaveLength(1);
	const taken = await waiting.given;
	expect(taken!.order.id).toBe(`${answers.indexOf(TAKEN)}`);
	taken!.taker.destroy();
	expect(existsSync(path)).toBe(false);
});

test("an order that is none, or from a control group where the machine cannot go, leaves the machine to the next", async () => {
	const waiting = await wait();
	expect(await take("{")).toBe("");
	expect(await take({ ...order("1"), groups: undefined })).toBe("");
	expect(await take({ ...order("2"), groups: "0::/none/../of/these\n" })).toBe("");
	expect(await take({ ...order("3"), groups: "0::/there-is-no-such-group-of-tsvmm\n" })).toBe("");
	expect(await take(order("4"))).toBe(TAKEN);
	const taken = await waiting.given;
	expect(taken!.order).toEqual(order("4"));
	taken!.taker.destroy();
});

test("a machine whose supervisor has gone, or that has ended, is nobody's", async () => {
	const first = await wait();
	abort.abort();
	expect(await first.given).toBeUndefined();
	expect(await take(order("1"))).toBe("");
	abort = new AbortController();
	const second = await wait();
	end({ reason: "power-off" });
	await expect(second.given).rejects.toMatchObject({ code: "ERR_POOL_FAILED" });
	expect(await take(order("2"))).toBe("");
});

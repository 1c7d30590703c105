/*
 * The supervisor of a pool, with processes that stand in for machines.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { endPool, listPools } from "../../../src/container/pool/commands.ts";
import { machinesWait, PoolPaths } from "../../../src/container/pool/paths.ts";
import type { PoolRequest } from "../../../src/container/pool/protocol.ts";
import { supervisePool } from "../../../src/container/pool/supervisor.ts";
import { ask } from "../../../src/host/request-socket.ts";

const SHAPE = { kernel: "/vmlinux", initrd: "/initrd", cpus: 1, memoryMiB: 128 };
const PROGRAM = join(import.meta.dirname, "member.mjs");
const paths = () => new PoolPaths("0123456789abcdef");

let children: ChildProcess[];
let takers: Socket[];
beforeEach(() => {
	children = [];
	takers = [];
});
afterEach(async () => {
	await endPool(paths().key);
	for (const taker of takers) taker.destroy();
	for (const child of children) child.kill("SIGKILL");
	rmSync(dirname(paths().directory), { recursive: true, force: true });
});

/** Keeps a pool in this process; resolves when it says that it is ready. */
async function keep(machines: number, how: (number: number) => string = () => "waits"): Promise<void> {
	let ready: (error?: unknown) => void = () => undefined;
	const isReady = new Promise<void>((resolve, reject) => {
		ready = (error) => (error === undefined ? resolve() : reject(error));
	});
	const start = (socket: string, _shape: unknown, output: number) => {
		const words = [PROGRAM, socket, how(children.length)];
		const child = spawn(process.execPath, words, { stdio: ["ignore", output, output, "pipe"] });
		children.push(child);
		return child;
	};
	supervisePool(paths(), { shape: SHAPE, machines }, { onReady: ready, start }).catch(ready);
	await isReady;
}

/** The process that was taken. */
function take(socket: string): Promise<number> {
	return new Promise((resolve, reject) => {
		const taker = connect(socket);
		takers.push(taker);
		taker.once("error", reject);
		taker.once("data", (said) => resolve(Number(said)));
	});
}

const isAlive = ({ exitCode, signalCode }: ChildProcess) => exitCode === null && signalCode === null;
const ready = async () => (await listPools()).map((pool) => pool.ready);

test("supervisePool fills a pool, and makes the next machine when one was taken", async () => {
	await keep(2);
	expect(await listPools()).toEqual([{ key: paths().key, shape: SHAPE, machines: 2, ready: 2 }]);
	expect(machinesWait()).toBe(true);
	const taken = await take(paths().sockets()[0]!);
	await vi.waitFor(async () => expect(await ready()).toEqual([2]), 20_000);
	expect(children).toHaveLength(3);
	await endPool(paths().key);
	await vi.waitFor(() => expect(children.filter(isAlive).map(({ pid }) => pid)).toEqual([taken]), 20_000);
	expect(await listPools()).toEqual([]);
	expect(machinesWait()).toBe(false);
}, 30_000);

test("a pool of another size ends the machines that are too many, or makes more", async () => {
	await keep(1);
	const resize = (machines: number) => ask(paths().control, { do: "resize", machines } satisfies PoolRequest);
	await resize(3);
	await vi.waitFor(async () => expect(await ready()).toEqual([3]), 20_000);
	await resize(1);
	await vi.waitFor(() => expect(children.filter(isAlive)).toHaveLength(1), 20_000);
	expect(await ready()).toEqual([1]);
}, 30_000);

test("a pool whose machines fail says why and ends; one that was full goes on with what it has", async () => {
	await expect(keep(2, () => "fails")).rejects.toMatchObject({
		code: "ERR_POOL_FAILED",
		message: `Cannot fill pool ${paths().key}: Cannot make a machine of a pool: no luck [ERR_GUEST_ENDED]`,
	});
	await vi.waitFor(() => expect(existsSync(paths().control)).toBe(false), 20_000);
	children = [];
	await keep(2, (number) => (number < 2 ? "waits" : "fails"));
	await take(paths().sockets()[0]!);
	await vi.waitFor(async () => {
		const [pool] = await listPools();
		expect(pool).toMatchObject({ ready: 1, machines: 2, failure: expect.stringContaining("no luck") });
	}, 20_000);
}, 30_000);

test("a machine that does not end is killed", async () => {
	await keep(1, () => "deaf");
	await endPool(paths().key);
	expect(children[0]).toMatchObject({ signalCode: "SIGKILL" });
}, 30_000);

test("supervisePool refuses a pool that another one keeps", async () => {
	await keep(1);
	await expect(keep(1)).rejects.toMatchObject({ code: "ERR_POOL_RUNNING" });
}, 30_000);

/*
 * AttachServer with the client that commands use, and with one that breaks the rules.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AgentClient, ExecError } from "../../../src/agent/client.ts";
import { encodeFrame, encodeHello, FRAME } from "../../../src/agent/protocol.ts";
import { AttachServer } from "../../../src/container/life/attach-server.ts";

let directory: string;
let path: string;
let server: AttachServer;
const clients: AgentClient[] = [];

beforeEach(async () => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-attach-"));
	path = join(directory, "s");
	server = await AttachServer.open(path, { openStdin: true, stdinOnce: true });
});
afterEach(async () => {
	for (const client of clients.splice(0)) client.close();
	await server.close();
	rmSync(directory, { recursive: true });
});

/** A process that writes down what is asked of it. */
function recorder() {
	const calls: string[] = [];
	return {
		calls,
		process: {
			write: async (bytes: Buffer) => void calls.push(`stdin ${bytes}`),
			endInput: () => void calls.push("end"),
			signal: (number: number, group: boolean) => void calls.push(`signal ${number}${group ? " group" : ""}`),
			resize: (columns: number, rows: number) => void calls.push(`size ${columns}x${rows}`),
		},
	};
}

async function attach(tty?: { columns: number; rows: number }) {
	const client = new AgentClient(connect(path));
	clients.push(client);
	await client.hello();
	return client.exec({ args: [], ...(tty === undefined ? {} : { tty }) });
}

const text = async (stream: Readable) => Buffer.concat(await stream.toArray()).toString();

test("a client that comes before the process gets all of its output, in order and by stream, and its end", async () => {
	const attaching = attach();
	await server.firstClient;
	server.started(recorder().process);
	const session = await attaching;
	await server.write("stdout", Buffer.from("out"));
	await server.write("stderr", Buffer.from("err"));
	const ended = server.ended({ code: 7 });
	expect(await Promise.all([text(session.stdout), text(session.stderr)])).toEqual(["out", "err"]);
	expect(await session.exit).toEqual({ code: 7 });
	await ended;
});

test("input, signals and sizes reach the process; its input ends with the client's", async () => {
	const { calls, process } = recorder();
	server.started(process);
	const session = await attach({ columns: 100, rows: 30 });
	expect(server.terminalSize).toEqual({ columns: 100, rows: 30 });
	session.signal(10, true);
	session.resize(90, 20);
	session.stdin.write("hello");
	session.stdin.end();
	await expect.poll(() => calls).toEqual(["size 100x30", "signal 10 group", "size 90x20", "stdin hello", "end"]);
});

test("several clients see the same; one that goes holds up nobody", async () => {
	server.started(recorder().process);
	const [one, two] = [await attach(), await attach()];
	clients[1]!.close();
	/* Far more than a window. */
	const block = Buffer.alloc(1 << 20, "x");
	const reading = text(one.stdout);
	await server.write("stdout", block);
	await server.ended({ signal: 9 });
	expect((await reading).length).toBe(1 << 20);
	expect(await one.exit).toEqual({ signal: 9 });
	await expect(two.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
});

test("a client that does not read holds the output up until it is dropped", async () => {
	server.started(recorder().process);
	await attach();
	let written = false;
	const writing = server.write("stdout", Buffer.alloc(4 << 20)).then(() => {
		written = true;
	});
	await new Promise((resolve) => setTimeout(resolve, 100));
	expect(written).toBe(false);
	server.dropClients();
	await writing;
});

test("a client is told why the process could not be started", async () => {
	const attaching = attach();
	attaching.catch(() => undefined);
	await server.firstClient;
	await server.failed(new ExecError(127, 2, "cannot run nothing"));
	await expect(attaching).rejects.toMatchObject({ exitStatus: 127, errno: 2, message: "Cannot run nothing" });
});

test.each([
	["bytes that are no frame", Buffer.alloc(64, 0xff)],
	["a stdin of a session that it has not", encodeFrame(FRAME.STDIN, 0, 9, Buffer.from("x"))],
	["an output", encodeFrame(FRAME.STDOUT, 0, 1, Buffer.from("x"))],
	["a request of another kind", encodeFrame(FRAME.POWEROFF, 0, 1)],
	[
		"more stdin than it was granted",
		Buffer.concat([
			encodeFrame(FRAME.EXEC, 0, 1),
			...Array.from({ length: 4 }, () => encodeFrame(FRAME.STDIN, 0, 1, Buffer.alloc(65536))),
		]),
	],
])("a client that sends %s is dropped, and no other", async (_, bytes) => {
	server.started({ ...recorder().process, write: () => new Promise(() => undefined) });
	const good = await attach();
	const socket = connect(path);
	socket.on("error", () => undefined);
	socket.write(encodeHello(Buffer.alloc(8), false));
	socket.write(bytes);
	socket.resume();
	await new Promise((resolve) => socket.once("close", resolve));
	const ended = server.ended({ code: 0 });
	expect(await good.exit).toEqual({ code: 0 });
	good.stdout.resume();
	await ended;
});

test("a client that leaves is told that it is over, and the process's input is not", async () => {
	const { calls, process } = recorder();
	const attaching = attach({ columns: 80, rows: 24 });
	await server.firstClient;
	server.started(process);
	const session = await attaching;
	session.stdin.write("typed");
	await vi.waitFor(() => expect(calls).toContain("stdin typed"));
	session.leave();
	expect(await session.exit).toEqual({ code: 0 });
	await server.write("stdout", Buffer.alloc(1 << 20));
	const next = await attach();
	next.stdin.write("more");
	await vi.waitFor(() => expect(calls).toContain("stdin more"));
	expect(calls).not.toContain("end");
	session.stdout.resume();
	next.stdout.resume();
});

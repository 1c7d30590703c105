/*
 * ttrpc on a socket: answers find their requests, and a peer that breaks the rules loses only its own connection. The
 * bytes of messages are those of containerd's definitions.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { EventPublisher } from "../../src/shim/events.ts";
import { decode, encode } from "../../src/shim/messages.ts";
import { CODE, RpcError, serve, TtrpcClient } from "../../src/shim/ttrpc.ts";

const folder = mkdtempSync(join(tmpdir(), "ttrpc-"));
const path = join(folder, "socket");
let close: (() => void) | undefined;
afterEach(() => close?.());
afterAll(() => rmSync(folder, { recursive: true }));

test("answers come to their requests in any order", async () => {
	const waiting: (() => void)[] = [];
	close = await serve(path, {
		"s/Slow": (payload) => new Promise((resolve) => waiting.push(() => resolve(payload))),
		"s/Quick": async (payload) => {
			for (const release of waiting.splice(0)) release();
			return payload;
		},
	});
	const client = new TtrpcClient(path);
	const slow = client.call("s", "Slow", Buffer.from("slow"));
	const quick = client.call("s", "Quick", Buffer.alloc(200_000, 7));
	expect(Buffer.from(await quick)).toEqual(Buffer.alloc(200_000, 7));
	expect(Buffer.from(await slow).toString()).toBe("slow");
	client.close();
});

test("what a method throws is the answer, and one that is not there is unimplemented", async () => {
	close = await serve(path, {
		"s/Gone": () => Promise.reject(new RpcError(CODE.notFound, "it is gone")),
		"s/Broken": () => Promise.reject(new Error("a defect")),
	});
	const client = new TtrpcClient(path);
	const error = (method: string) => client.call("s", method, Buffer.alloc(0)).catch((one: RpcError) => one);
	expect(await error("Gone")).toMatchObject({ code: CODE.notFound, message: "it is gone" });
	expect(await error("Broken")).toMatchObject({ code: CODE.unknown, message: "a defect" });
	expect(await error("Other")).toMatchObject({ code: CODE.unimplemented });
	client.close();
});

/** What comes back for bytes, as [stream, type, code of the status]. */
async function answersTo(bytes: Buffer, count: number): Promise<number[][]> {
	const socket = connect(path);
	const answers: number[][] = [];
	let read = Buffer.alloc(0);
	socket.write(bytes);
	for await (const chunk of socket) {
		read = Buffer.concat([read, chunk as Buffer]);
		while (read.length >= 10 && read.length >= 10 + read.readUInt32BE(0)) {
			const end = 10 + read.readUInt32BE(0);
			const { status } = decode<{ status: { code: number } }>("Response", read.subarray(10, end));
			answers.push([read.readUInt32BE(4), read.readUInt8(8), status.code]);
			read = read.subarray(end);
		}
		if (answers.length === count) break;
	}
	return answers;
}

function frame(stream: number, type: number, message: Buffer, length = message.length): Buffer {
	const header = Buffer.alloc(10);
	header.writeUInt32BE(length, 0);
	header.writeUInt32BE(stream, 4);
	header.writeUInt8(type, 8);
	return Buffer.concat([header, message]);
}

test("a frame that is too long, or no message, has a status, and spoils no other", async () => {
	close = await serve(path, { "s/Echo": async (payload) => payload });
	const good = encode("Request", { service: "s", method: "Echo", payload: Buffer.from("x") });
	const long = Buffer.alloc((4 << 20) + 1, 7);
	const bytes = [
		frame(1, 1, Buffer.from([0xff, 0xff, 0xff])),
		frame(3, 1, long),
		frame(5, 1, encode("Request", { service: "s", method: "__proto__" })),
		frame(7, 1, Buffer.alloc(0)),
		/* An answer, data, and a type that is none: nobody has asked for them. */
		...[2, 3, 200].map((type) => frame(9, type, good)),
		frame(11, 1, good),
	];
	const answers = await answersTo(Buffer.concat(bytes), 5);
	expect(answers.sort(([one = 0], [other = 0]) => one - other)).toEqual([
		[1, 2, CODE.unknown],
		[3, 2, CODE.resourceExhausted],
		[5, 2, CODE.unimplemented],
		[7, 2, CODE.unimplemented],
		[11, 2, CODE.ok],
	]);
});

test("a frame of which only a part comes holds up nobody else, and nor does one of 4 GiB", async () => {
	close = await serve(path, { "s/Echo": async (payload) => payload });
	for (const part of [
		Buffer.from([0, 0]),
		frame(1, 1, Buffer.alloc(3), 100),
		frame(1, 1, Buffer.alloc(3), 0xffffffff),
	]) {
		const hostile = connect(path);
		hostile.on("error", () => undefined);
		await new Promise<void>((resolve) => hostile.write(part, () => resolve()));
		const client = new TtrpcClient(path);
		expect(Buffer.from(await client.call("s", "Echo", Buffer.from("still"))).toString()).toBe("still");
		client.close();
		hostile.destroy();
	}
});

test("an answer that is no message, or too long, fails its call alone", async () => {
	const server = createServer((socket) => {
		socket.once("data", () => {
			socket.write(frame(1, 2, Buffer.from([0xff, 0xff, 0xff])));
			socket.write(frame(3, 2, Buffer.alloc((4 << 20) + 1)));
			socket.write(frame(5, 2, encode("Response", { payload: Buffer.from("good") })));
		});
	});
	await new Promise<void>((resolve) => server.listen(path, () => resolve()));
	const client = new TtrpcClient(path);
	const calls = [1, 2, 3].map(() => client.call("s", "Any", Buffer.alloc(0)));
	const [bad, long, good] = await Promise.allSettled(calls);
	expect([bad?.status, long?.status, good?.status]).toEqual(["rejected", "rejected", "fulfilled"]);
	client.close();
	server.close();
});

test("calls fail when the server goes", async () => {
	close = await serve(path, { "s/Never": () => new Promise(() => undefined) });
	const client = new TtrpcClient(path);
	const call = client.call("s", "Never", Buffer.alloc(0));
	setImmediate(() => close!());
	await expect(call).rejects.toMatchObject({ code: CODE.unavailable });
});

test("events are sent in order, each when the one before was taken", async () => {
	const topics: string[] = [];
	close = await serve(path, {
		"containerd.services.events.ttrpc.v1.Events/Forward": async (payload) => {
			const { envelope } = decode<{ envelope: { topic: string; namespace: string } }>("ForwardRequest", payload);
			topics.push(`${envelope.namespace}${envelope.topic}`);
			return encode("Empty", {});
		},
	});
	const events = new EventPublisher(`unix://${path}`, "default");
	events.publish("TaskCreate", { container_id: "a", pid: 7 });
	events.publish("TaskStart", { container_id: "a", pid: 7 });
	events.publish("TaskExit", { container_id: "a", id: "a", pid: 7, exit_status: 3 });
	await events.close();
	expect(topics).toEqual(["default/tasks/create", "default/tasks/start", "default/tasks/exit"]);
});

test("events reach a containerd that is started anew, and one that stays away is given up", async () => {
	const topics: string[] = [];
	const events = new EventPublisher(`unix://${path}`, "default", [0, 100, 100, 100]);
	events.publish("TaskCreate", { container_id: "a" });
	events.publish("TaskStart", { container_id: "a" });
	setTimeout(async () => {
		close = await serve(path, {
			"containerd.services.events.ttrpc.v1.Events/Forward": async (payload) => {
				topics.push(decode<{ envelope: { topic: string } }>("ForwardRequest", payload).envelope.topic);
				return encode("Empty", {});
			},
		});
	}, 50);
	await events.close();
	expect(topics).toEqual(["/tasks/create", "/tasks/start"]);
	const alone = new EventPublisher(`unix://${path}.none`, "default", [0]);
	alone.publish("TaskCreate", { container_id: "a" });
	await alone.close();
	expect(topics.length).toBe(2);
});

test("messages have the bytes of containerd's definitions", () => {
	/* By protoc from containerd's api/runtime/task/v2/shim.proto. */
	expect(encode("KillRequest", { id: "t", signal: 9, all: true }).toString("hex")).toBe("0a017418092001");
	expect(encode("DeleteResponse", { pid: 1, exit_status: 3 }).toString("hex")).toBe("08011003");
	const state = encode("StateResponse", { id: "t", pid: 300, status: 2, exited_at: { seconds: 5, nanos: 1 } });
	expect(state.toString("hex")).toBe("0a017418ac02200252040805" + "1001");
	expect(
		decode<{ exec_id: string; width: number }>("ResizePtyRequest", Buffer.from("0a017412016518502018", "hex")),
	).toEqual({ id: "t", exec_id: "e", width: 80, height: 24 });
});

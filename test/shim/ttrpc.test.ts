/*
 * ttrpc on a socket: answers find their requests, and a peer that breaks the rules loses only its own connection. The
 * bytes of messages are those of containerd's definitions.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
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

test("a frame that is too long, or no message, ends or spoils nothing else", async () => {
	close = await serve(path, { "s/Echo": async (payload) => payload });
	const client = new TtrpcClient(path);
	const hostile = connect(path);
	const ended = new Promise((resolve) => hostile.once("close", resolve));
	hostile.on("error", () => undefined);
	/* A request of rubbish is answered by an error; a length of 4 GiB ends the connection. */
	hostile.write(Buffer.from([0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 0xff, 0xff, 0xff]));
	hostile.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3, 1, 0]));
	hostile.resume();
	await ended;
	expect(Buffer.from(await client.call("s", "Echo", Buffer.from("still"))).toString()).toBe("still");
	client.close();
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

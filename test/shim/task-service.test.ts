/*
 * The Task service without a machine: what it answers to requests that are wrong, and that nothing is left of a task that
 * cannot be made. What needs a machine is in test/lab/shim.test.ts.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { EventPublisher } from "../../src/shim/events.ts";
import { decode, encode, type Message } from "../../src/shim/messages.ts";
import { allow } from "../../src/shim/refusals.ts";
import { TaskService } from "../../src/shim/task-service.ts";
import { CODE, type RpcError } from "../../src/shim/ttrpc.ts";
import { defaultConfig, TestBundle } from "../oci/bundles.ts";

const root = mkdtempSync(join(tmpdir(), "shim-"));
afterAll(() => rmSync(root, { recursive: true }));

/** Each method's request. */
const REQUESTS: Readonly<Record<string, string>> = {
	Create: "CreateTaskRequest",
	Exec: "ExecProcessRequest",
	Kill: "KillRequest",
	ResizePty: "ResizePtyRequest",
	CloseIO: "CloseIORequest",
	Update: "UpdateTaskRequest",
	Shutdown: "ShutdownRequest",
};

let service: TaskService;
beforeEach(() => {
	service = new TaskService(join(root, "state"), new EventPublisher(undefined, "default"));
});

async function call(name: string, message: Message, version = "v2"): Promise<Uint8Array> {
	const method = service.methods[`containerd.task.${version}.Task/${name}`]!;
	return await method(encode(REQUESTS[name] ?? "ProcessRequest", message));
}

const refused = (name: string, message: Message) =>
	call(name, message).catch(({ code, message: text }: RpcError) => ({ code, text }));

test("all methods of both versions are there", () => {
	const names = Object.keys(service.methods).map((name) => name.replace(/^containerd.task./, ""));
	expect(names.length).toBe(34);
	for (const name of ["Create", "Delete", "Checkpoint", "ResizePty", "CloseIO", "Shutdown", "Stats"])
		expect(names).toEqual(expect.arrayContaining([`v2.Task/${name}`, `v3.Task/${name}`]));
});

test("a task that is not there is not found, and checkpoints are not implemented", async () => {
	const missing = { code: CODE.notFound, text: "container not created" };
	const others = ["Start", "Delete", "State", "Wait", "Pause", "Resume", "Pids", "Stats"];
	for (const name of [...others, ...Object.keys(REQUESTS)].filter((one) => one !== "Create" && one !== "Shutdown"))
		expect(await refused(name, { id: "none", exec_id: "e" })).toEqual(missing);
	expect(await refused("Checkpoint", { id: "none" })).toMatchObject({ code: CODE.unimplemented });
});

test("a request that is no message is an invalid argument", async () => {
	for (const [name, method] of Object.entries(service.methods)) {
		if (name.endsWith("/Checkpoint")) continue;
		await expect(method(Buffer.from([0x0a, 0xff, 0xff]))).rejects.toMatchObject({ code: CODE.invalidArgument });
	}
});

test("Create has runc's words for a program that is missing, and leaves nothing", async () => {
	using bundle = new TestBundle({ ...defaultConfig(), process: { ...defaultConfig().process, args: ["nosuch"] } });
	const request = { id: "a", bundle: bundle.path, rootfs: [], stdin: "", stdout: "", stderr: "" };
	const text = `OCI runtime create failed: tsvmm-oci create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH`;
	expect(await refused("Create", request)).toEqual({ code: CODE.unknown, text });
	expect(existsSync(join(root, "state")) ? readdirSync(join(root, "state")) : []).toEqual([]);
	expect(await refused("Create", { ...request, bundle: "/no/such" })).toMatchObject({ code: CODE.unknown });
	/* Another one is not held up. */
	expect(await refused("State", { id: "a" })).toMatchObject({ code: CODE.notFound });
});

test("Connect tells the shim's number, and Shutdown ends a shim without tasks", async () => {
	const answer = decode<{ shim_pid: number; task_pid: number }>(
		"ConnectResponse",
		await call("Connect", { id: "a" }, "v3"),
	);
	expect(answer).toMatchObject({ shim_pid: process.pid, task_pid: 0 });
	await call("Shutdown", { id: "a" });
	await service.shutdown;
});

test("allow refuses what a state does not allow, as containerd's shim for runc does", () => {
	expect(() => allow("start", "created")).not.toThrow();
	expect(() => allow("start", "running")).toThrow("cannot start a running process");
	expect(() => allow("delete", "created")).not.toThrow();
	expect(() => allow("delete", "stopped")).not.toThrow();
	expect(() => allow("delete", "paused")).toThrow("cannot delete a paused process");
	expect(() => allow("pause", "created")).toThrow("cannot pause task in created state");
	expect(() => allow("resume", "running")).toThrow("cannot resume a running process");
	expect(() => allow("exec", "stopped")).toThrow("cannot exec in a stopped state");
	expect(() => allow("update", "stopped")).toThrow("cannot update a stopped container");
});

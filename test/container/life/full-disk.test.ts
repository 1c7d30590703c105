/*
 * A disk that is full under the state directory, while containers and volumes are made and while one runs, and one that
 * cannot be written. The supervisor, the agent and the disk are real, and there is no VM.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { attachToContainer, removeContainer, waitForContainer } from "../../../src/container/life/commands.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { prepareWritableLayer } from "../../../src/container/life/writable-layer.ts";
import { createPod } from "../../../src/container/pod/store.ts";
import { VolumeStore } from "../../../src/container/volume/store.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { stopAgents } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";
import { start } from "./started-container.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-full-"));
const before = process.env.TSVMM_STATE;
const FULL = { code: "ERR_STATE_FULL", exitStatus: 125, message: expect.stringMatching(/no space left on device$/) };

beforeAll(buildAgent);
beforeEach(() => {
	mkdirSync(join(directory, "state"));
	execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", join(directory, "state")]);
	process.env.TSVMM_STATE = join(directory, "state");
});
afterEach(() => {
	execFileSync("umount", ["-l", join(directory, "state")]);
	rmSync(join(directory, "state"), { recursive: true });
});
afterAll(async () => {
	await stopAgents();
	if (before !== undefined) process.env.TSVMM_STATE = before;
	rmSync(directory, { recursive: true });
});

/** Takes all room but so many pages. */
function fill(leave = 0): void {
	const { bavail, bsize } = statfsSync(join(directory, "state"));
	writeFileSync(join(directory, "state/filler"), Buffer.alloc(Math.max(0, bavail - leave) * bsize));
}

const names = (path: string) => readdirSync(join(directory, "state", path)).filter((name) => name !== ".lock");

test("create says that the disk is full, and leaves nothing", async () => {
	const store = new ContainerStore();
	await store.create(containerConfig(), "first");
	fill();
	await expect(store.create(containerConfig(), "second")).rejects.toMatchObject(FULL);
	await expect(store.rename(store.find("first"), "other")).rejects.toMatchObject(FULL);
	await expect(new VolumeStore().create("data")).rejects.toMatchObject(FULL);
	await expect(createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "pod")).rejects.toMatchObject(FULL);
	expect(names("pods")).toEqual([]);
	expect(names("containers")).toEqual([store.find("first").id]);
	expect(names("volumes")).toEqual([]);
	await removeContainer(store.find("first"));
	expect(names("containers")).toEqual([]);
});

test("the writable layer is whole or not there", async () => {
	fill(2);
	await expect(prepareWritableLayer(join(directory, "state/writable.img"), 2 ** 30)).rejects.toMatchObject(FULL);
	expect(names(".")).toEqual(["filler"]);
});

test("a container whose state cannot be written is not started, and none of it runs on", async () => {
	const starting = start(["sleep", "1000"], { beforeStart: fill });
	await expect(starting).rejects.toMatchObject(FULL);
	rmSync(join(directory, "state/filler"));
	const [container] = new ContainerStore().list();
	expect(container!.isSupervised()).toBe(false);
	expect(container!.state()).toMatchObject({ status: "created", pid: 0 });
	await removeContainer(container!);
});

test("a container that runs goes on when the disk fills, loses output in its log alone, and tells its status", async () => {
	const script = "read line; echo out; exit 7";
	const streams = { openStdin: true, stdinOnce: true };
	const { container, ended } = await start(["sh", "-c", script], { process: streams });
	const session = await attachToContainer(container);
	fill();
	session.stdin.end("go\n");
	const waiting = waitForContainer(container);
	expect(await text(session.stdout)).toBe("out\n");
	expect(await session.exit).toEqual({ code: 7 });
	expect(await waiting).toBe(7);
	await ended;
	expect(container.isSupervised()).toBe(false);
	rmSync(join(directory, "state/filler"));
	await removeContainer(container);
	expect(names("containers")).toEqual([]);
});

test("a state directory that cannot be written is told of", async () => {
	execFileSync("mount", ["-o", "remount,ro", join(directory, "state")]);
	await expect(new ContainerStore().create(containerConfig(), "one")).rejects.toMatchObject({
		code: "ERR_STATE_WRITE",
	});
	await expect(new VolumeStore().create("data")).rejects.toMatchObject({ code: "ERR_STATE_WRITE" });
});

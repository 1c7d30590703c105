/*
 * Snapshots of containers, with the real agent and no VM: what cannot be saved or restored, and that a container goes on
 * whatever comes of its snapshot. test/lab/warm.test.ts saves and restores one.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, expect, test } from "vitest";
import {
	killContainer,
	pauseContainer,
	removeContainer,
	stopContainer,
	waitForContainer,
} from "../../../src/container/life/commands.ts";
import type { ContainerConfig } from "../../../src/container/life/config.ts";
import { askSupervisor } from "../../../src/container/life/control.ts";
import { readLog } from "../../../src/container/life/log-reader.ts";
import { reviveFrom } from "../../../src/container/life/revive.ts";
import { checkHost, mustBeSavable, readSavedContainer } from "../../../src/container/life/saved-container.ts";
import { ContainerStore, type StoredContainer } from "../../../src/container/life/store.ts";
import { askMachine } from "../../../src/machine/control.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { stopAgents } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";
import { env, start } from "./started-container.ts";

const store = new ContainerStore();
const directories: string[] = [];

beforeAll(buildAgent);
afterEach(async () => {
	for (const container of store.list()) await removeContainer(container, { force: true });
	for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
	await stopAgents();
});

function place(): string {
	const directory = mkdtempSync(join(tmpdir(), "saved-"));
	directories.push(directory);
	return join(directory, "saved");
}

const snapshot = (container: StoredContainer, stop = false) =>
	askMachine(container.paths.control, { do: "snapshot", path: place(), stop });

async function logOf(container: StoredContainer): Promise<string> {
	let text = "";
	for await (const { log } of readLog(container.paths.log)) text += log;
	return text;
}

const COUNT = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 6";

test("a container whose snapshot fails goes on and loses nothing; one that is paused stays so", async () => {
	const { container, calls } = await start(["sh", "-c", COUNT], { process: { env } });
	await expect(snapshot(container)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	await pauseContainer(container);
	await expect(snapshot(container)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	expect(container.state().status).toBe("paused");
	expect(calls).toEqual(["resume", "pause", "resume", "pause"]);
	expect(await waitForContainer(container)).toBe(6);
	expect(await logOf(container)).toBe(Array.from({ length: 40 }, (_, i) => `${i + 1}\n`).join(""));
});

test("a container tells what its machine's balloon says about memory", async () => {
	const { container } = await start(["sleep", "1000"], { process: { env } });
	const memory = { freeBytes: 1 << 20, availableBytes: 2 << 20, givenBackBytes: 3 << 20 };
	expect(await askSupervisor(container.paths, { do: "memory" })).toEqual({ memory });
});

test("a container that has ended has no snapshot taken", async () => {
	const { container, ended } = await start(["sleep", "1000"], { process: { env } });
	await killContainer(container, 9);
	await ended;
	await expect(snapshot(container)).rejects.toMatchObject({ code: "ERR_MACHINE_MISSING" });
	expect(await stopContainer(container)).toBe(false);
});

test.each<[string, Partial<ContainerConfig>]>([
	["it is in the machine of pod abc", { joins: { kind: "pod", id: "abc" } }],
	[
		"two machines would have its address on network shop",
		{ network: { attachments: [{ device: { kind: "network", name: "shop", aliases: [] } }], ports: [] } },
	],
	["it has a device of the host", { devices: [{ source: "/dev/sdb", target: "/dev/data", readOnly: false }] }],
])("a snapshot is refused because %s", async (why, more) => {
	const container = await store.create(containerConfig({}, more));
	expect(() => mustBeSavable(container)).toThrow(
		expect.objectContaining({ code: "ERR_SNAPSHOT_CONTAINER", message: expect.stringContaining(why) as string }),
	);
});

const EXCHANGE = { kind: 3, isOpen: false, isStarted: true, isStdinGone: false, isStdinClosed: false, unread: 0 };

/** A snapshot's directory with this container.json. */
async function written(change: object, more: Partial<ContainerConfig> = {}): Promise<string> {
	const container = await store.create(containerConfig({}, more));
	const path = place();
	mkdirSync(path);
	const saved = {
		version: 1,
		config: container.config,
		rootfs: { file: "root", bytes: 4096 },
		pid: 7,
		sessions: [{ id: 1, role: "main", exchange: EXCHANGE }],
		...change,
	};
	writeFileSync(join(path, "container.json"), JSON.stringify(saved));
	return path;
}

test.each<[string, object, string]>([
	["no process", { sessions: [{ id: 1, role: "kept", exchange: EXCHANGE }] }, "ERR_SNAPSHOT_FORMAT"],
	[
		"two processes",
		{ sessions: [1, 2].map((id) => ({ id, role: "main", exchange: EXCHANGE })) },
		"ERR_SNAPSHOT_FORMAT",
	],
	["no sessions", { sessions: [] }, "ERR_STATE_FORMAT"],
	["a session that is none", { sessions: [7] }, "ERR_STATE_FORMAT"],
	["another version", { version: 2 }, "ERR_SNAPSHOT_FORMAT"],
	["no configuration", { config: {} }, "ERR_SNAPSHOT_FORMAT"],
])("a snapshot with %s is refused", async (_, change, code) => {
	const path = await written(change);
	await expect(readSavedContainer(path)).rejects.toMatchObject({ code });
});

test("a restore is refused before anything is made when the host lacks a directory, the volume or the image", async () => {
	const mount = { type: "bind" as const, source: "/nowhere/at/all", target: "/data", readOnly: false };
	const bind = await readSavedContainer(await written({}, { mounts: [mount] }));
	await expect(checkHost("saved", bind)).rejects.toThrow(/snapshot saved: \/nowhere\/at\/all is not there/);
	const volume = await readSavedContainer(
		await written({}, { mounts: [{ ...mount, type: "volume", volume: "data" }] }),
	);
	await expect(checkHost("saved", volume)).rejects.toMatchObject({
		code: "ERR_SNAPSHOT_HOST",
		message: expect.stringContaining("volume data is not there") as string,
	});
	const whole = await readSavedContainer(await written({}));
	await expect(checkHost("saved", whole)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	const count = store.list().length;
	await expect(reviveFrom(await written({}), "next")).rejects.toMatchObject({ code: "ERR_SNAPSHOT_MISSING" });
	expect(store.list()).toHaveLength(count + 1);
});

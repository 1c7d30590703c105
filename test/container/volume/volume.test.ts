/*
 * Volumes and mounts: what -v and --mount say, what is made of it, and what a volume's users keep.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { removeContainer } from "../../../src/container/life/commands.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { mountShares, prepareMounts, readMountFlag, readVolumeFlag } from "../../../src/container/volume/mount.ts";
import { VolumeStore } from "../../../src/container/volume/store.ts";
import { containerConfig } from "../life/container-config.ts";

const store = new VolumeStore();
let directory: string;

beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-volume-"));
});
afterEach(async () => {
	rmSync(directory, { recursive: true });
	for (const { name } of store.list()) await store.remove(name, () => []);
});

describe("readVolumeFlag", () => {
	test.each([
		["/data", { type: "volume", target: "/data", readOnly: false, makeSource: false }],
		["cache:/data:ro", { type: "volume", source: "cache", target: "/data", readOnly: true, makeSource: false }],
		["/host:/data", { type: "bind", source: "/host", target: "/data", readOnly: false, makeSource: true }],
		["/host:/data:z,ro", { type: "bind", source: "/host", target: "/data", readOnly: true, makeSource: true }],
		[
			"cache:/x:nocopy",
			{ type: "volume", source: "cache", target: "/x", readOnly: false, makeSource: false, noCopy: true },
		],
		[".:/data", { type: "bind", source: process.cwd(), target: "/data", readOnly: false, makeSource: true }],
	])("reads %j", (text, request) => {
		expect(readVolumeFlag(text)).toEqual(request);
	});
	test.each(["", "data", "/", "a:b", ":/data", "a:/data:xx", "a:/b:ro:rw", "a b:/data", "a:/da\tta"])(
		"refuses %j",
		(text) => {
			expect(() => readVolumeFlag(text)).toThrow(expect.objectContaining({ exitStatus: 125 }));
		},
	);
});

describe("readMountFlag", () => {
	test.each([
		[
			"type=bind,src=/host,dst=/data,readonly",
			{ type: "bind", source: "/host", target: "/data", readOnly: true, makeSource: false },
		],
		[
			"source=cache,target=/data",
			{ type: "volume", source: "cache", target: "/data", readOnly: false, makeSource: false },
		],
		["type=volume,dst=/data,ro=false", { type: "volume", target: "/data", readOnly: false, makeSource: false }],
		["type=tmpfs,target=/run,tmpfs-size=64m,tmpfs-mode=1770", { target: "/run", options: "size=64m,mode=1770" }],
		["type=tmpfs,target=/run", { target: "/run" }],
		[
			"source=cache,target=/data,volume-nocopy",
			{ type: "volume", source: "cache", target: "/data", readOnly: false, makeSource: false, noCopy: true },
		],
	])("reads %j", (text, request) => {
		expect(readMountFlag(text)).toEqual(request);
	});
	test.each(["", "type=bind,target=/data", "type=npipe,source=a,target=/b", "target=/data,colour=green", "source=a"])(
		"refuses %j",
		(text) => {
			expect(() => readMountFlag(text)).toThrow(expect.objectContaining({ code: "ERR_RUN_VOLUME" }));
		},
	);
});

test("prepareMounts makes volumes and the directories of -v, and no others", async () => {
	const made = join(directory, "a/b");
	const mounts = await prepareMounts(
		[readVolumeFlag(`${made}:/one`), readVolumeFlag("named:/two:ro"), readVolumeFlag("/three")],
		store,
	);
	expect(mounts).toMatchObject([
		{ type: "bind", source: made, target: "/one", readOnly: false },
		{ type: "volume", volume: "named", target: "/two", readOnly: true },
		{ type: "volume", target: "/three" },
	]);
	for (const { source } of mounts) expect(existsSync(source)).toBe(true);
	const missing = readMountFlag(`type=bind,source=${directory}/none,target=/x`);
	await expect(prepareMounts([missing as never], store)).rejects.toMatchObject({ code: "ERR_RUN_VOLUME_SOURCE" });
	writeFileSync(join(directory, "file"), "");
	await expect(prepareMounts([readVolumeFlag(`${directory}/file/x:/x`)], store)).rejects.toMatchObject({
		code: "ERR_RUN_VOLUME_SOURCE",
	});
});

test("prepareMounts leaves no volume of a container that is not made", async () => {
	const missing = readMountFlag(`type=bind,source=${directory}/none,target=/x`);
	const requests = [readVolumeFlag("/anonymous"), readVolumeFlag("named:/data"), missing as never];
	await expect(prepareMounts(requests, store)).rejects.toMatchObject({ code: "ERR_RUN_VOLUME_SOURCE" });
	expect(store.list().map(({ name }) => name)).toEqual(["named"]);
});

test("mountShares has a volume filled as long as it is empty, unless it is not to be", async () => {
	const flags = ["named:/a", "other:/b:nocopy", "ro:/c:ro", `${directory}:/d`];
	const mounts = await prepareMounts(flags.map(readVolumeFlag), store);
	const filled = () => mountShares(mounts).map(({ fill = false }) => fill);
	expect(filled()).toEqual([true, false, false, false]);
	writeFileSync(join(mounts[0]!.source, "file"), "");
	expect(filled()).toEqual([false, false, false, false]);
});

describe("VolumeStore", () => {
	test("makes a volume once, with its labels, for all who ask", async () => {
		const all = await Promise.all(Array.from({ length: 4 }, () => store.create("one", { tier: "db" })));
		expect(new Set(all.map(({ created }) => created)).size).toBe(1);
		writeFileSync(join(all[0]!.mountpoint, "kept"), "x");
		expect(existsSync(join((await store.create("one")).mountpoint, "kept"))).toBe(true);
		expect(store.find("one").labels).toEqual({ tier: "db" });
		await expect(store.create("../x")).rejects.toMatchObject({ code: "ERR_VOLUME_NAME" });
		expect(() => store.find("two")).toThrow(expect.objectContaining({ code: "ERR_VOLUME_NOT_FOUND" }));
	});
	test("keeps a volume that a container has, and says which", async () => {
		await store.create("one");
		await expect(store.remove("one", () => ["abc"])).rejects.toMatchObject({
			code: "ERR_VOLUME_IN_USE",
			message: "Cannot remove volume one: container abc has it",
		});
		expect(store.find("one").name).toBe("one");
	});
	test("tells of a record that is damaged", async () => {
		const { mountpoint } = await store.create("one");
		writeFileSync(join(mountpoint, "../volume.json"), "{}");
		expect(() => store.find("one")).toThrow(expect.objectContaining({ code: "ERR_VOLUME_STATE" }));
		rmSync(join(mountpoint, ".."), { recursive: true });
	});
});

test("removeContainer with its volumes removes the anonymous ones", async () => {
	const mounts = await prepareMounts([readVolumeFlag("named:/one"), readVolumeFlag("/two")], store);
	const containers = new ContainerStore();
	await removeContainer(await containers.create(containerConfig({}, { mounts })));
	expect(store.list()).toHaveLength(2);
	await removeContainer(await containers.create(containerConfig({}, { mounts })), { volumes: true });
	expect(store.list().map(({ name }) => name)).toEqual(["named"]);
});

/*
 * `tsvmm system`: what takes room, and what is removed when nobody needs it.
 */
import { linkSync, writeFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { ContainerStore } from "../../src/container/life/store.ts";
import { VolumeStore } from "../../src/container/volume/store.ts";
import { containerConfig } from "../container/life/container-config.ts";
import { system } from "./system-output.ts";

const store = new ContainerStore();
const volumes = new VolumeStore();

afterEach(async () => {
	for (const container of store.list()) await container.erase();
	process.exitCode = 0;
});

test("system df counts, and system prune removes, containers that do not run", async () => {
	const container = await store.create(containerConfig(), "idle");
	writeFileSync(container.paths.writable, Buffer.alloc(1 << 20, "x"));
	const df = await system("df");
	expect(df).toMatch(/^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +\d+ /);
	expect(df).toMatch(/\nContainers +1 +0 +1\.05MB +1\.05MB \(100%\)\nLocal Volumes +0 +0 +0B +0B\nTemplates +\d+ /);
	const pruned = await system("prune", "-f");
	expect(pruned).toMatch(new RegExp(`^Deleted Containers:\\n${container.id}\\n\\n`));
	expect(pruned).toMatch(/Total reclaimed space: 1\.05MB\n$/);
	expect(store.list()).toEqual([]);
});

test("system df -v has a table of images, of containers, of volumes and of templates", async () => {
	const { name, mountpoint } = await volumes.create("data");
	writeFileSync(`${mountpoint}/file`, Buffer.alloc(1 << 20, "x"));
	linkSync(`${mountpoint}/file`, `${mountpoint}/again`);
	const mount = { type: "volume" as const, source: mountpoint, target: "/data", readOnly: false, volume: name };
	const { shortId } = await store.create(containerConfig({}, { mounts: [mount] }), "idle");
	const tables = (await system("df", "-v")).split(/^.* space usage:\n\n/m);
	expect(tables[1]).toMatch(/^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE +SHARED SIZE +UNIQUE SIZE +CONTAINERS\n/);
	expect(tables[2]).toMatch(
		new RegExp(`\n${shortId} +test +"true" +1 +0B +(?:Less than a second|1 second|\\d seconds) ago +Created +idle\n`),
	);
	expect(tables[3]).toMatch(/^VOLUME NAME +LINKS +SIZE\ndata +1 +1\.05MB\n\n$/);
	await expect(system("df", "-v", "--format", "json")).rejects.toMatchObject({ code: "ERR_FORMAT" });
	for (const container of store.list()) await container.erase();
	await volumes.remove(name, () => []);
});

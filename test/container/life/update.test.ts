/*
 * `update`: what a container that does not run gets, and what one that runs cannot get.
 */
import { afterEach, expect, test } from "vitest";
import { readUpdate } from "../../../src/cli/container/update.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { cgroupSettings, updateContainer } from "../../../src/container/life/update.ts";
import { containerConfig } from "./container-config.ts";

const store = new ContainerStore();

afterEach(async () => {
	for (const { paths } of store.list()) await store.find(paths.id).erase();
});

test("updateContainer keeps what it is told, and nothing else changes", async () => {
	const container = await store.create(containerConfig(), "one");
	const before = container.config;
	await updateContainer(store, container, readUpdate({ memory: "128M", pidsLimit: "-1", restart: "on-failure:3" }));
	expect(store.find("one").config).toEqual({
		...before,
		memoryMiB: 128,
		restart: { name: "on-failure", maximumRetryCount: 3 },
		system: { ...before.system, cgroupLimits: { "pids.max": "max" } },
	});
});

test("updateContainer gives a container that removes itself no restart policy", async () => {
	const container = await store.create(containerConfig({}, { autoRemove: true }));
	const update = updateContainer(store, container, readUpdate({ restart: "always" }));
	await expect(update).rejects.toMatchObject({ code: "ERR_UPDATE" });
	expect(container.reload().config.restart.name).toBe("no");
});

test("cgroupSettings bounds what a machine has, and does not let it grow", () => {
	const has = { cpus: 2, memoryMiB: 512 };
	expect(cgroupSettings(has, { cpus: 1, memoryMiB: 256, pidsLimit: "20" })).toEqual({
		"cpu.max": "100000 100000",
		"memory.max": `${256 * 2 ** 20}`,
		"pids.max": "20",
	});
	expect(() => cgroupSettings(has, { cpus: 3 })).toThrow(/more processors while it runs: its machine has 2$/);
	expect(() => cgroupSettings(has, { memoryMiB: 513 })).toThrow(/more memory while it runs: its machine has 512 MiB$/);
});

test.each([
	[{}, "ERR_UPDATE"],
	[{ cpus: "0" }, "ERR_CONFIG_CPUS"],
	[{ pidsLimit: "many" }, "ERR_RUN_PIDS"],
	[{ restart: "never" }, "ERR_RUN_RESTART"],
])("readUpdate refuses %j", (flags, code) => {
	expect(() => readUpdate(flags)).toThrow(expect.objectContaining({ code }));
});

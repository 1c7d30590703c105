/*
 * The containers' directories: names, IDs, damaged files, locks, and the truth after a supervisor was killed.
 */
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { removeContainer, stopContainer } from "../../../src/container/life/commands.ts";
import { writeState } from "../../../src/container/life/state.ts";
import { ContainerStore, type StoredContainer } from "../../../src/container/life/store.ts";
import { tryLockFile } from "../../../src/host/file-lock.ts";
import { answerRequests } from "../../../src/host/request-socket.ts";
import { containerConfig } from "./container-config.ts";

const store = new ContainerStore();
const create = (name?: string) => store.create(containerConfig(), name);

afterEach(async () => {
	for (const { paths } of store.list()) await store.find(paths.id).erase();
});

/** Takes the lock as a supervisor does. The caller closes it. */
function supervise({ paths }: StoredContainer): number {
	const fd = openSync(paths.lock, "r+");
	expect(tryLockFile(fd, "exclusive", paths.lock)).toBe(true);
	return fd;
}

describe("ContainerStore.find", () => {
	test("takes a name, an ID, and the beginning of one ID alone", async () => {
		const one = await create("one");
		for (const text of ["one", "/one", one.id, one.shortId, one.id.slice(0, 3)]) {
			expect(store.find(text).id).toBe(one.id);
		}
		expect(() => store.find("two")).toThrow(/^Cannot find container two: no such container$/);
		/* By the pigeonhole, two of 17 begin alike. */
		const many = await Promise.all(Array.from({ length: 16 }, () => create()));
		const first = [one, ...many].map(({ id }) => id.charAt(0));
		const shared = first.find((digit, i) => first.indexOf(digit) !== i)!;
		expect(() => store.find(shared)).toThrow(expect.objectContaining({ code: "ERR_CONTAINER_AMBIGUOUS" }));
	});
	test("prefers a name to the beginning of an ID", async () => {
		const one = await create();
		const named = await create(one.id.slice(0, 8));
		expect(store.find(one.id.slice(0, 8)).id).toBe(named.id);
	});
});

describe("ContainerStore.create", () => {
	test("gives a free name to each, and a name in use to nobody", async () => {
		const made = await Promise.all([create(), create(), create()]);
		expect(new Set(made.map(({ config }) => config.name)).size).toBe(3);
		const outcomes = await Promise.allSettled([create("same"), create("same"), create("same")]);
		expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
		const refused = outcomes.filter((outcome) => outcome.status === "rejected");
		expect(refused.map(({ reason }) => reason.code)).toEqual(Array(2).fill("ERR_CONTAINER_NAME_IN_USE"));
	});
	test.each(["", "-x", "a b", "a/b", "../x", "x".repeat(256)])("refuses the name %j", async (name) => {
		await expect(create(name)).rejects.toMatchObject({ code: "ERR_CONTAINER_NAME" });
		expect(store.list()).toEqual([]);
	});
	test("leaves nothing of one that was killed half-way", async () => {
		await create("whole");
		const half = join(store.directory, `.${"f".repeat(64)}`);
		mkdirSync(half);
		expect(store.list()).toHaveLength(1);
		await store.collectLeftovers();
		expect(existsSync(half)).toBe(false);
	});
});

test("ContainerStore.rename changes the name alone, and takes no name in use", async () => {
	const [one] = await Promise.all([create("one"), create("two")]);
	await expect(store.rename(one, "two")).rejects.toMatchObject({ code: "ERR_CONTAINER_NAME_IN_USE" });
	await expect(store.rename(one, "one")).rejects.toMatchObject({ code: "ERR_CONTAINER_NAME" });
	await store.rename(one, "three");
	expect(store.find("three").id).toBe(one.id);
	expect(() => store.find("one")).toThrow();
	expect(store.find("three").config.created).toBe(one.config.created);
});

describe("StoredContainer.state", () => {
	test("is what the supervisor wrote while it lives, and that it was killed when it does not", async () => {
		const container = await create();
		expect(container.state()).toMatchObject({ status: "created", pid: 0 });
		const lock = supervise(container);
		const startedAt = new Date().toISOString();
		await writeState(container.paths, { ...container.state(), status: "running", pid: 99, startedAt });
		expect(container.state()).toMatchObject({ status: "running", pid: 99 });
		closeSync(lock);
		expect(container.state()).toMatchObject({
			status: "exited",
			exitCode: 137,
			pid: 0,
			error: { code: "ERR_CONTAINER_KILLED" },
		});
	});
	test("of a supervisor that was killed before the process ran is created", async () => {
		const container = await create();
		await writeState(container.paths, { ...container.state(), pid: 99 });
		expect(container.state()).toMatchObject({ status: "created", pid: 0 });
	});
	test.each(["", "{", "{}", "[]", '{"status":"flying"}'])(
		"of a damaged file %j is an error, and no other's",
		async (text) => {
			const [bad, good] = await Promise.all([create("bad"), create("good")]);
			writeFileSync(bad.paths.state, text);
			expect(() => bad.state()).toThrow(expect.objectContaining({ code: "ERR_CONTAINER_STATE" }));
			expect(good.state().status).toBe("created");
			await removeContainer(bad, { force: true });
			expect(store.list().map(({ config }) => config.name)).toEqual(["good"]);
		},
	);
});

test("a container whose configuration is damaged is told of, left out of lists, and can be removed by its ID", async () => {
	const [bad] = await Promise.all([create("bad"), create("good")]);
	writeFileSync(bad.paths.config, "{");
	const errors: unknown[] = [];
	const fresh = new ContainerStore();
	expect(fresh.list((error) => errors.push(error))).toHaveLength(1);
	expect(errors).toMatchObject([{ code: "ERR_CONTAINER_STATE" }]);
	await removeContainer(fresh.find(bad.id), { force: true });
	expect(existsSync(bad.paths.directory)).toBe(false);
});

test("stopContainer waits for a supervisor that does not listen yet", async () => {
	const container = await create();
	const lock = supervise(container);
	const stopping = stopContainer(container);
	await new Promise((resolve) => setTimeout(resolve, 100));
	mkdirSync(container.paths.sockets, { recursive: true });
	const asked = new Promise<unknown>((resolve) => {
		void answerRequests(container.paths.control, async (request) => {
			resolve(request);
			closeSync(lock);
			return { exitCode: 0 };
		}).then(async (close) => {
			await stopping;
			await close();
			rmSync(container.paths.sockets, { recursive: true });
		});
	});
	expect(await asked).toEqual({ do: "stop" });
	expect(await stopping).toBe(true);
	expect(await stopContainer(container)).toBe(false);
	await expect.poll(() => existsSync(container.paths.sockets)).toBe(false);
});

test("removeContainer refuses one that runs; of two at once the second finds none", async () => {
	const container = await create("one");
	const lock = supervise(container);
	await expect(removeContainer(container)).rejects.toMatchObject({ code: "ERR_CONTAINER_RUNNING" });
	closeSync(lock);
	const outcomes = await Promise.allSettled([removeContainer(container), removeContainer(store.find("one"))]);
	expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
	const { reason } = outcomes.find((outcome) => outcome.status === "rejected")!;
	expect(reason).toMatchObject({ code: "ERR_CONTAINER_NOT_FOUND" });
	expect(existsSync(container.paths.directory)).toBe(false);
});

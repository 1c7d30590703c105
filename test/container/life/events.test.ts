/*
 * What `events` tells: each change in its order, the past, the future, and files that are put aside.
 */
import { appendFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeEvent, eventsCommand } from "../../../src/cli/container/events.ts";
import {
	execInContainer,
	killContainer,
	pauseContainer,
	removeContainer,
	stopContainer,
	unpauseContainer,
} from "../../../src/container/life/commands.ts";
import {
	type ContainerEvent,
	type EventSelection,
	readEvents,
	recordEvent,
	timeOf,
} from "../../../src/container/life/events.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { stateDirectory } from "../../../src/host/directories.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { stopAgents } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";
import { env, start } from "./started-container.ts";

const store = new ContainerStore();
const file = join(stateDirectory(), "events.json");
const old = join(stateDirectory(), "events.old.json");
const removeFiles = () => {
	for (const path of [file, old]) rmSync(path, { force: true });
};

beforeAll(buildAgent);
beforeEach(removeFiles);
afterEach(async () => {
	for (const container of store.list()) await removeContainer(container, { force: true });
	await stopAgents();
	removeFiles();
});

async function past(selection: EventSelection = {}): Promise<ContainerEvent[]> {
	const found: ContainerEvent[] = [];
	for await (const event of readEvents({ sinceMs: 0, untilMs: Date.now(), ...selection })) found.push(event);
	return found;
}

describe("events", () => {
	test("tell a container's whole life in order", async () => {
		const { container, ended } = await start(["sleep", "100"], { more: { labels: { tier: "web" } } });
		const session = await execInContainer(container, { args: ["sh", "-c", "exit 3"], env });
		await session.exit;
		await pauseContainer(container);
		await unpauseContainer(container);
		await killContainer(container, 10);
		await store.rename(container, "renamed");
		await stopContainer(container, { timeoutMs: 0 });
		await ended;
		await removeContainer(container);
		const events = await past();
		expect(events.map(({ Action }) => Action)).toEqual([
			"create",
			"start",
			"exec_create: sh -c exit 3",
			"exec_start: sh -c exit 3",
			"exec_die",
			"pause",
			"unpause",
			"kill",
			"rename",
			"kill",
			"die",
			"stop",
			"destroy",
		]);
		const attributes = events.map(({ Actor }) => Actor.Attributes);
		expect(attributes[4]).toMatchObject({ exitCode: "3", tier: "web" });
		expect(attributes[7]!.signal).toBe("10");
		expect(attributes.slice(-3).map(({ name, exitCode }) => [name, exitCode])).toEqual([
			["renamed", "137"],
			["renamed", undefined],
			["renamed", undefined],
		]);
		expect(events.every(({ Actor, id }) => Actor.ID === container.id && id === container.id)).toBe(true);
	});
	test("come as they happen, and end when nobody reads", async () => {
		let reads = true;
		const seen: string[] = [];
		const following = (async () => {
			for await (const { Action } of readEvents({ goesOn: () => reads })) seen.push(Action);
		})();
		await store.create(containerConfig(), "before");
		/* The follower may have begun after the first. */
		await expect
			.poll(async () => {
				store.find("before").record("tick");
				return seen.includes("tick");
			})
			.toBe(true);
		await removeContainer(store.find("before"));
		await expect.poll(() => seen.at(-1)).toBe("destroy");
		reads = false;
		await following;
	});
	test("outlive a file that is put aside, and a line that was cut off", async () => {
		const { config } = await store.create(containerConfig(), "one");
		appendFileSync(file, '{"Type":"contai\n');
		recordEvent(config, "tick");
		expect((await past()).map(({ Action }) => Action)).toEqual(["create", "tick"]);
		let reads = true;
		const seen: string[] = [];
		const following = (async () => {
			for await (const { Action } of readEvents({ goesOn: () => reads })) seen.push(Action);
		})();
		await expect
			.poll(() => {
				recordEvent(config, "tick");
				return seen.length;
			})
			.toBeGreaterThan(0);
		appendFileSync(file, `${"x".repeat(1023)}\n`.repeat(8192));
		recordEvent(config, "last of the old file");
		expect(existsSync(old)).toBe(true);
		recordEvent(config, "first of the new file");
		expect((await past({ sinceMs: 0 })).map(({ Action }) => Action)).toContain("first of the new file");
		await expect.poll(() => seen.at(-1)).toBe("first of the new file");
		expect(seen.at(-2)).toBe("last of the old file");
		reads = false;
		await following;
	});
	test("are chosen by time", async () => {
		const { config } = await store.create(containerConfig(), "one");
		const [created] = await past();
		await new Promise((resolve) => setTimeout(resolve, 5));
		recordEvent(config, "tick");
		const after = timeOf(created!) + 1;
		expect((await past({ sinceMs: after })).map(({ Action }) => Action)).toEqual(["tick"]);
		expect((await past({ untilMs: after })).map(({ Action }) => Action)).toEqual(["create"]);
	});
});

describe("describeEvent", () => {
	const event: ContainerEvent = {
		status: "die",
		id: "ab",
		from: "busybox",
		Type: "container",
		Action: "die",
		Actor: { ID: "ab", Attributes: { name: "web", exitCode: "3", image: "busybox" } },
		scope: "local",
		time: 1767323045,
		timeNano: 1767323045123000000,
	};
	test("writes Docker's lines", () => {
		expect(describeEvent(event)).toBe(
			"2026-01-02T03:04:05.123000000Z container die ab (exitCode=3, image=busybox, name=web)\n",
		);
	});
	test("writes JSON with whole nanoseconds, and templates with Go's names", () => {
		expect(describeEvent(event, "json")).toContain('"timeNano":1767323045123000000}');
		expect(describeEvent(event, "{{.Type}} {{.Status}} {{.ID}} {{.Time}} {{.Actor.Attributes.name}}")).toBe(
			"container die ab 1767323045 web\n",
		);
	});
	test.each(["status", "colour=red", "event="])("events refuse the filter %j", async (filter) => {
		await expect(eventsCommand().parseAsync(["--filter", filter], { from: "user" })).rejects.toMatchObject({
			code: "ERR_FILTER",
		});
	});
});

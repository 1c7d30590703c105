/*
 * This program once more, as a process of its own that reports.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { launchDetached } from "../../src/host/detached-process.ts";

/** A program in the place of tsvmm: it does what its word says. */
vi.mock("../../src/host/own-program.ts", () => ({
	ownProgram: () => [
		"-e",
		`const { writeSync } = require("node:fs");
		const say = (text) => writeSync(3, text);
		({
			ready: () => (say("\\n"), setTimeout(() => say("{}"), 100)),
			fails: () => (say("\\n"), say('{"failure":{"code":"ERR_OF_IT","message":"Cannot do it"}}')),
			dies: () => (say("\\n"), console.error("its last words")),
			silent: () => {},
			shows: () => (console.error(process.env.NODE_EXTRA_CA_CERTS, process.env.TSVMM_SHOWN), say("{}")),
			talks: () => (writeSync(4, "to its channel\\n"), say("{}")),
		})[process.argv[1]]();`,
		"--",
	],
}));

let directory: string;
beforeAll(() => {
	directory = mkdtempSync(`${tmpdir()}/tsvmm-test-`);
});
afterAll(() => rmSync(directory, { recursive: true }));

function launch(word: string, onBegun?: () => void): Promise<number> {
	const log = `${directory}/${word}.log`;
	return launchDetached({ words: [word], log, attempt: "Cannot start: the test", code: "ERR_TEST", onBegun });
}

test("launchDetached tells that a process has begun, and then that it is ready", async () => {
	const events: string[] = [];
	const ready = launch("ready", () => events.push("begun")).then(() => events.push("ready"));
	await vi.waitFor(() => expect(events).toEqual(["begun"]), 10_000);
	await ready;
	expect(events.at(-1)).toBe("ready");
});

test.each([
	[true, "undefined yes"],
	[false, "/dev/null yes"],
])("launchDetached keeps the user's certificates from a process whose withoutTls is %s", async (withoutTls, shown) => {
	vi.stubEnv("NODE_EXTRA_CA_CERTS", "/dev/null");
	vi.stubEnv("TSVMM_SHOWN", "yes");
	const log = `${directory}/shows.log`;
	await launchDetached({ words: ["shows"], log, withoutTls, attempt: "Cannot start: the test", code: "ERR_TEST" });
	vi.unstubAllEnvs();
	expect(readFileSync(log, "utf8")).toContain(`${shown}\n`);
});

test("launchDetached gives the caller what a process writes to its channel", async () => {
	let channel: Readable | undefined;
	const onChannel = (stream: Readable) => {
		channel = stream;
	};
	await launchDetached({ words: ["talks"], attempt: "Cannot start: the test", code: "ERR_TEST", onChannel });
	expect(await text(channel!)).toBe("to its channel\n");
});

test.each([
	["fails", { code: "ERR_OF_IT", message: "Cannot do it" }],
	["dies", { code: "ERR_TEST", message: "Cannot start: the test has ended\nits last words" }],
	["silent", { code: "ERR_TEST", message: "Cannot start: the test has ended" }],
])("launchDetached tells of a process that %s", async (word, error) => {
	await expect(launch(word)).rejects.toMatchObject(error);
	expect(readFileSync(`${directory}/${word}.log`, "utf8")).toBe(word === "dies" ? "its last words\n" : "");
});

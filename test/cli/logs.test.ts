/*
 * `tsvmm logs` with a reader that goes away: it ends as any program in a pipe, without a word.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { LogFile } from "../../src/container/life/log-file.ts";
import { ContainerStore, type StoredContainer } from "../../src/container/life/store.ts";
import { stateDirectory } from "../../src/host/directories.ts";
import { containerConfig } from "../container/life/container-config.ts";
import { bundle, tsvmm } from "./tsvmm.ts";

const LINE = `${"x".repeat(99)}\n`;
/** More than a pipe holds. */
const LINES = 20_000;

let container: StoredContainer;

beforeAll(async () => {
	bundle();
	container = await new ContainerStore().create(containerConfig(), "talker");
	const log = await LogFile.open(container.paths.log);
	await log.write("stdout", Buffer.from(LINE.repeat(LINES)));
	await log.close();
}, 60_000);
afterAll(() => container.erase());

const env = { TSVMM_STATE: stateDirectory() };

test("all of it comes to a reader that stays", async () => {
	const { status, stdout, stderr } = await tsvmm(["logs", "talker"], { env });
	expect({ status, length: stdout.length, stderr }).toEqual({ status: 0, length: LINE.length * LINES, stderr: "" });
});

test("a reader that has read enough ends it", async () => {
	const through = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"];
	expect(await tsvmm(["logs", "talker"], { env, through })).toMatchObject({ status: 141, stdout: LINE, stderr: "" });
});

/*
 * Containers whose files are damaged: each command says which file it is, with status 125, other containers are served all
 * the same, and `rm -f` removes the damaged one.
 */
import { existsSync, writeFileSync } from "node:fs";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { ContainerStore, type StoredContainer } from "../../src/container/life/store.ts";
import { removePod } from "../../src/container/pod/commands.ts";
import { createPod, findPod, listPods } from "../../src/container/pod/store.ts";
import { stateDirectory } from "../../src/host/directories.ts";
import { containerConfig } from "../container/life/container-config.ts";
import { bundle, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

const store = new ContainerStore();
let bad: StoredContainer;

beforeAll(bundle, 60_000);
beforeEach(async () => {
	bad = await store.create(containerConfig(), "bad");
	await store.create(containerConfig(), "good");
});
afterEach(async () => {
	/* Other tests of this worker have the same state directory. */
	if (existsSync(bad.paths.directory)) await bad.erase();
	for (const container of store.list()) await container.erase();
});

const run = (...args: string[]) => tsvmm(args, { env: { TSVMM_STATE: stateDirectory() } });

describe.each(["state", "config"] as const)("a damaged %s.json", (which) => {
	const refused = () => ({
		status: 125,
		stdout: "",
		stderr: `tsvmm: error: Cannot read ${bad.paths[which]}: it is damaged [ERR_CONTAINER_STATE]\n  hint: Remove the container with: tsvmm rm -f ID\n`,
	});
	test.each([
		["start", (id: string) => ["start", id]],
		["exec", (id: string) => ["exec", id, "true"]],
		["logs", (id: string) => ["logs", id]],
		["update", (id: string) => ["update", "--restart", "no", id]],
	])("%s says so", async (command, words) => {
		writeFileSync(bad.paths[which], '{"version":');
		const outcome = await run(...words(bad.id));
		/* What a command does not read it does not mind. */
		const reads = which === "config" || command === "start" || command === "exec";
		if (reads) expect(outcome).toMatchObject(refused());
		else expect(outcome).toMatchObject({ status: 0, stderr: "" });
	});
	test("inspect says so and shows the others, ps lists them, and rm -f removes it", async () => {
		writeFileSync(bad.paths[which], "");
		const inspected = await run("inspect", "--format", "{{.Name}}", bad.id, "good");
		expect(inspected).toMatchObject({ ...refused(), stdout: "/good\n" });
		const listed = await run("ps", "-a", "--format", "{{.Names}}");
		expect(listed).toMatchObject({ status: 0, stdout: "good\n" });
		expect(listed.stderr).toContain(`Cannot read ${bad.paths[which]}: it is damaged`);
		const used = await run("system", "df", "-v");
		expect(used.status).toBe(0);
		expect(used.stdout).toMatch(which === "state" ? /Damaged +bad\n/ : /Created +good\n/);
		expect(await run("rm", "-f", bad.id)).toMatchObject({ status: 0, stderr: "" });
		expect(existsSync(bad.paths.directory)).toBe(false);
		expect(store.list().map(({ config }) => config.name)).toEqual(["good"]);
	});
});

describe.each(["state", "config"] as const)("a damaged %s.json of a pod", (which) => {
	test("is told of, other pods are listed, and pod rm -f removes it", async () => {
		const damaged = await createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "spoilt");
		await createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "sound");
		writeFileSync(damaged.paths[which], "{");
		const told = `Cannot read ${damaged.paths[which]}: it is damaged`;
		const inspected = await run("pod", "inspect", damaged.id);
		expect(inspected).toMatchObject({
			status: 125,
			stdout: "",
			stderr: `tsvmm: error: ${told} [ERR_CONTAINER_STATE]\n  hint: Remove the pod with: tsvmm pod rm -f ID\n`,
		});
		const listed = await run("pod", "ps", "--format", "{{.Name}}");
		expect(listed).toMatchObject({ status: 0, stdout: "sound\n", stderr: `tsvmm: ${told}\n` });
		expect(await run("pod", "rm", "-f", damaged.id)).toMatchObject({ status: 0, stderr: "" });
		expect(existsSync(damaged.paths.directory)).toBe(false);
		expect(listPods().map(({ config }) => config.name)).toEqual(["sound"]);
		await removePod(findPod("sound"));
	});
});

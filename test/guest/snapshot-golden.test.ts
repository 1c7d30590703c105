/*
 * Snapshots that older versions of tsvmm have written, one for each format: their guests go on. Needs /dev/kvm.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Machine } from "../../src/machine/machine.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { FORMAT, migrate } from "../../src/snapshot/migrate.ts";
import { mergeSnapshot } from "../../src/snapshot/write.ts";
import { GOLDEN, unpackGolden } from "../snapshot/golden.ts";
import { goldenHost, Transcript } from "./transcript.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-golden-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** What the guest of a snapshot prints from then on. */
async function rest(path: string): Promise<string> {
	const console = new Transcript();
	const machine = await Machine.restore(path, goldenHost(console));
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
	return console.text;
}

const names = readdirSync(GOLDEN);
test("there is a golden snapshot of each format, also of the present one, which the next will find", () => {
	expect(names.sort()).toEqual(Array.from({ length: FORMAT }, (_, i) => `format-${i + 1}`));
});

describe.each(names)("the golden snapshot of %s", (name) => {
	test("goes on to its guest's end, and can be a base and be merged", async () => {
		const path = join(directory, name);
		unpackGolden(name, path);
		const ending = await rest(path);
		expect("abcdefghijklmnopqrstuvwxyz".endsWith(ending)).toBe(true);
		expect(ending.length).toBeGreaterThan(5);
		const [merged, based] = [join(directory, `${name}-merged`), join(directory, `${name}-based`)];
		await mergeSnapshot(path, merged);
		expect((await readManifest(merged)).id).toBe((await readManifest(path)).id);
		const machine = await Machine.restore(path, goldenHost(new Transcript()));
		await machine.snapshot(based, { base: path });
		await machine.stop();
		/* A generation ID is new in each clone; the guest of format 1 has none. */
		expect((await readManifest(based)).memory.usedBytes).toBe(name === "format-1" ? 0 : 4096);
		expect([await rest(merged), await rest(based)]).toEqual([ending, ending]);
	});
});

describe("migrate", () => {
	test("from format 1 to 2 adds the id, and changes nothing else", () => {
		const before = JSON.parse(readFileSync(join(GOLDEN, "format-1/snapshot.json"), "utf8"));
		const after = migrate(before) as Record<string, unknown>;
		expect(after).toEqual({ ...before, format: 2, id: expect.stringMatching(/^[0-9a-f]{64}$/) });
		expect(before.format).toBe(1);
		/* The same each time, and another one for other files. */
		expect(migrate(before)).toEqual(after);
		const other = migrate({ ...before, state: { ...before.state, sha256: before.memory.sha256 } });
		expect((other as typeof after).id).not.toBe(after.id);
	});

	test("passes on what is of this format, of none, or damaged", () => {
		for (const value of [undefined, null, "text", 1, [], {}, { format: FORMAT }, { format: "1" }, { format: 0 }])
			expect(migrate(value)).toEqual(value);
		for (const damaged of [{ format: 1 }, { format: 1, state: null, memory: 7 }])
			expect(migrate(damaged)).toMatchObject({ ...damaged, format: FORMAT });
	});
});

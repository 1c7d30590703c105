/*
 * The file of --cidfile, and what is left of it when no container is made.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { checkCidFile, removeEmptyCidFile, withCidFile } from "../../src/cli/container/cid-file.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-cid-"));
afterAll(() => rmSync(directory, { recursive: true }));

test("checkCidFile refuses what is there, and what cannot be made", () => {
	writeFileSync(join(directory, "there"), "");
	const refused = (path: string, found: RegExp) =>
		expect(() => checkCidFile(path)).toThrow(
			expect.objectContaining({ code: "ERR_RUN_CIDFILE", message: expect.stringMatching(found) }),
		);
	refused("/", /to \/: it is a directory$/);
	refused(join(directory, "there"), /it is there already$/);
	refused(join(directory, "no/such"), /there is no directory .*\/no$/);
	checkCidFile(join(directory, "new"));
});

test("withCidFile writes the ID, and leaves nothing when no container was made", async () => {
	const path = join(directory, "id");
	await withCidFile(path, async (write) => write("abc"));
	expect(readFileSync(path, "utf8")).toBe("abc");
	await expect(withCidFile(path, async () => undefined)).rejects.toMatchObject({ code: "ERR_RUN_CIDFILE" });
	const other = join(directory, "other");
	await expect(withCidFile(other, () => Promise.reject(new Error("no name")))).rejects.toThrow("no name");
	expect(existsSync(other)).toBe(false);
});

test("removeEmptyCidFile keeps a file with an ID", () => {
	const [empty, full] = [join(directory, "empty"), join(directory, "full")];
	writeFileSync(empty, "");
	writeFileSync(full, "abc");
	for (const path of [empty, full, join(directory, "missing")]) removeEmptyCidFile(path);
	expect([existsSync(empty), existsSync(full)]).toEqual([false, true]);
});

/*
 * A command on several things: each gets its turn, and each error is printed.
 */
import { afterEach, expect, test, vi } from "vitest";
import { UsageError } from "../../src/base/errors.ts";
import { each } from "../../src/cli/each.ts";

afterEach(() => {
	vi.restoreAllMocks();
	process.exitCode = undefined;
});

test("the errors of all are printed, the others are done, and the first error has the exit status", async () => {
	const printed: string[] = [];
	vi.spyOn(process.stderr, "write").mockImplementation((text) => printed.push(String(text)) > 0);
	const done: number[] = [];
	const status = await each([1, 2, 3, 4], async (number) => {
		if (number === 2) throw new UsageError("ERR_USAGE", "two");
		if (number === 3) throw Object.assign(new UsageError("ERR_USAGE", "three"), { exitStatus: 7 });
		done.push(number);
	});
	expect(done).toEqual([1, 4]);
	expect(printed).toEqual(["tsvmm: error: two [ERR_USAGE]\n", "tsvmm: error: three [ERR_USAGE]\n"]);
	expect(status).toBe(125);
	expect(await each([1], (number) => done.push(number))).toBe(0);
});

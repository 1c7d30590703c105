/*
 * `tsvmm system`: what takes room, and what is removed when nobody needs it.
 */
import { writeFileSync } from "node:fs";
import { afterEach, expect, test, vi } from "vitest";
import { systemCommand } from "../../src/cli/system.ts";
import { ContainerStore } from "../../src/container/life/store.ts";
import { containerConfig } from "../container/life/container-config.ts";

const store = new ContainerStore();

afterEach(async () => {
	vi.restoreAllMocks();
	for (const container of store.list()) await container.erase();
	process.exitCode = 0;
});

async function system(...args: string[]): Promise<string> {
	const written: string[] = [];
	vi.spyOn(process.stdout, "write").mockImplementation((text) => {
		written.push(String(text));
		return true;
	});
	await systemCommand().parseAsync(args, { from: "user" });
	return written.join("");
}

test("system df counts, and system prune removes, containers that do not run", async () => {
	const container = await store.create(containerConfig(), "idle");
	writeFileSync(container.paths.writable, Buffer.alloc(1 << 20, "x"));
	const df = await system("df");
	expect(df).toMatch(/^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +\d+ /);
	expect(df).toMatch(/\nContainers +1 +0 +1\.05MB +1\.05MB \(100%\)\n$/);
	vi.restoreAllMocks();
	const pruned = await system("prune", "-f");
	expect(pruned).toMatch(new RegExp(`^Deleted Containers:\\n${container.id}\\n\\n`));
	expect(pruned).toMatch(/Total reclaimed space: 1\.05MB\n$/);
	expect(store.list()).toEqual([]);
});

/*
 * `npm run bench` runs to its end and prints all comparisons. The test does not judge the times.
 */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";

test("npm run bench prints a ratio for exits, kicks, the disk and the boot", () => {
	const output = execFileSync("npm", ["run", "--silent", "bench", "--", "--json"], {
		cwd: packageRoot(),
		encoding: "utf8",
		stdio: ["ignore", "pipe", "pipe"],
	});
	const rows = JSON.parse(output.slice(output.indexOf("[\n"))) as { name: string; ratio: number }[];
	for (const name of [/^exit round trip/, /^kick to used/, /^virtio-blk 4 KiB .* 64 in flight/, /^boot to init/]) {
		const row = rows.find((candidate) => name.test(candidate.name));
		expect(row, `${name}`).toBeDefined();
		expect(row!.ratio).toBeGreaterThan(0);
	}
}, 900_000);

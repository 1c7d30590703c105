/*
 * The plots in docs are those of the figures beside them, and docs/performance.md shows all of them.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";

test("docs/plots has what `npm run plots` draws, and docs/performance.md shows it", () => {
	execFileSync(process.execPath, ["scripts/plots.mjs", "--check"], { cwd: packageRoot(), stdio: "pipe" });
	const page = readFileSync(join(packageRoot(), "docs/performance.md"), "utf8");
	const plots = readdirSync(join(packageRoot(), "docs/plots")).filter((name) => name.endsWith(".svg"));
	expect(plots.length).toBeGreaterThan(0);
	for (const name of plots) expect(page).toContain(`(plots/${name})`);
});

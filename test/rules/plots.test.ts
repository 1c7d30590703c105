/*
 * The plots in docs are those of the figures beside them, and docs/performance.md shows all of them. The diagrams are those of
 * their sources, and a page shows each.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { filesOf, textOf } from "./sources.ts";

test("docs/plots has what `npm run plots` draws, and docs/performance.md shows it", () => {
	execFileSync(process.execPath, ["scripts/plots.mjs", "--check"], { cwd: packageRoot(), stdio: "pipe" });
	const page = readFileSync(join(packageRoot(), "docs/performance.md"), "utf8");
	const plots = readdirSync(join(packageRoot(), "docs/plots")).filter((name) => name.endsWith(".svg"));
	expect(plots.length).toBeGreaterThan(0);
	for (const name of plots) expect(page).toContain(`(plots/${name})`);
});

test("docs/diagrams has what `npm run diagrams` draws, and a page shows each", () => {
	execFileSync(process.execPath, ["scripts/diagrams.mjs", "--check"], { cwd: packageRoot(), stdio: "pipe" });
	const diagrams = readdirSync(join(packageRoot(), "docs/diagrams")).filter((name) => name.endsWith(".svg"));
	const pages = filesOf("docs", /\.md$/).map(textOf).join("");
	expect(diagrams.length).toBeGreaterThan(0);
	for (const name of diagrams) expect(pages).toContain(`(diagrams/${name})`);
});

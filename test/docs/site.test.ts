/*
 * The documentation as a site: every page is built and in the sidebar, each link leads to a page, a section or a file of it,
 * the search finds words, and the pages need nothing from elsewhere.
 */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SIDEBAR } from "../../docs/.vitepress/sidebar.ts";
import { root } from "../rules/sources.ts";
import { PAGES } from "./pages.ts";

const site = join(root, `build/site-${process.pid}`);
const html = new Map<string, string>();

beforeAll(async () => {
	await promisify(execFile)(process.execPath, ["scripts/docs.mjs", "--to", site], { cwd: root });
	for (const name of readdirSync(site, { recursive: true, encoding: "utf8" })) {
		if (name.endsWith(".html")) html.set(name, readFileSync(join(site, name), "utf8"));
	}
}, 180_000);

afterAll(() => rmSync(site, { recursive: true, force: true }));

const idsOf = (text: string) => new Set([...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!));

test("every page of the documentation and of the sidebar is in the site", () => {
	const pages = PAGES.map((page) => (page === "docs/index.md" ? "index.html" : page.replace(/md$/, "html")));
	expect(pages.filter((page) => !html.has(page))).toEqual([]);
	const listed = SIDEBAR.flatMap(({ items }) => items ?? []).map(({ link }) => `${link?.slice(1)}.html`);
	expect(listed.filter((page) => !html.has(page))).toEqual([]);
});

test("every link in the site leads to a page, to a section of it, or to a file", () => {
	const broken: string[] = [];
	let checked = 0;
	for (const [page, text] of html) {
		const body = /<main[^>]*>(.*)<\/main>/s.exec(text)?.[1] ?? "";
		for (const [, href] of body.matchAll(/<(?:a|img)[^>]* (?:href|src)="([^"]*)"/g)) {
			if (/^(https?:|mailto:|data:)/.test(href!)) continue;
			checked++;
			const [path, anchor] = decodeURI(href!).split("#") as [string, string | undefined];
			const file = path === "" ? page : path.startsWith("/") ? path.slice(1) : join(dirname(page), path);
			const target = file === "" ? "index.html" : file;
			const found = html.get(target);
			if (
				found === undefined
					? !existsSync(join(site, target))
					: anchor !== undefined && anchor !== "" && !idsOf(found).has(anchor)
			) {
				broken.push(`${page}: ${href}`);
			}
		}
	}
	expect(checked).toBeGreaterThan(200);
	expect(broken).toEqual([]);
});

test("the search index has the words of all pages", () => {
	const index = readdirSync(join(site, "assets/chunks")).find((name) => /^@localSearchIndexroot/.test(name));
	const text = readFileSync(join(site, "assets/chunks", index!), "utf8");
	for (const word of ["ioeventfd", "kubelet", "ERR_QCOW2_FEATURE", "virtiofsd"])
		expect(text.toLowerCase()).toContain(word.toLowerCase());
});

test("the site loads nothing from other hosts", () => {
	for (const [page, text] of html) {
		const loaded = [...text.matchAll(/<(?:script|img|link|iframe)[^>]* (?:src|href)="(https?:[^"]*)"/g)];
		expect(loaded.map(([, url]) => `${page}: ${url}`)).toEqual([]);
	}
});

test("the recording of the demo is one of a container's output", () => {
	const recording = readFileSync(join(root, "docs/demo.cast"), "utf8");
	expect(JSON.parse(recording.split("\n")[0]!)).toMatchObject({ version: 2, width: 100 });
	expect(recording).toContain("Hello from a container in a microVM");
	expect(readdirSync(join(site, "assets")).some((name) => /^demo.*\.cast$/.test(name))).toBe(true);
});

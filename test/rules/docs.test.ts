import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { SIDEBAR } from "../../docs/.vitepress/sidebar.ts";
import { PAGES } from "../docs/pages.ts";
import { defines, referencesIn } from "./definitions.ts";
import { filesOf, root, textOf } from "./sources.ts";

const pages = [...filesOf("docs", /\.md$/), "README.md", "CONTRIBUTING.md"];

test("defines: finds definitions, not mentions", () => {
	const found = (path: string, symbol: string) => defines({ path, symbol });
	expect(found("src/host/run-loop.ts", "RunLoop.#wake")).toBe(true);
	expect(found("src/host/run-loop.ts", "RunLoopEvents")).toBe(true);
	expect(found("native/runloop.c", "vcpu_thread")).toBe(true);
	/* A line of an interface, a member without its class, a call, an import, a word. */
	expect(found("src/host/run-loop.ts", "RunLoopEvents.onExit")).toBe(false);
	expect(found("src/host/run-loop.ts", "onExit")).toBe(false);
	expect(found("src/host/run-loop.ts", "native")).toBe(false);
	expect(found("native/runloop.c", "pthread_create")).toBe(false);
	expect(found("native/runloop.c", "ioctl")).toBe(false);
});

/* Here, because a test has a time limit and a busy machine may need long to parse so many files. */
const references = pages.flatMap((page) => referencesIn(textOf(page)).map((to) => ({ page, ...to })));
const gone = references.filter((to) => !existsSync(join(root, to.path)) || !defines(to));

test("every file#symbol in the documentation names a definition", () => {
	expect(references.length).toBeGreaterThan(40);
	expect(gone.map(({ page, path, symbol }) => `${page}: ${path}#${symbol}`)).toEqual([]);
});

test("docs/tour.md has six numbered stops, and each names a definition", () => {
	const stops = textOf("docs/tour.md")
		.split(/^(?=\d+\. )/m)
		.slice(1)
		.map((stop) => stop.split("\n\n")[0]!);
	expect(stops).toHaveLength(6);
	expect(stops.filter((stop) => referencesIn(stop).length === 0)).toEqual([]);
});

test("docs/tour.md lists the heart with its lines: about 2,000 in all", () => {
	const rows = [...textOf("docs/tour.md").matchAll(/^\| `([^`#]+)#[^`]+` \| (\d+) \|/gm)].map(([, path, lines]) => {
		return { path: path!, stated: Number(lines), counted: textOf(path!).split("\n").length - 1 };
	});
	expect(rows).toHaveLength(10);
	const wrong = rows.filter(({ stated, counted }) => Math.abs(stated - counted) > 20 + counted / 10);
	expect(wrong).toEqual([]);
	const total = rows.reduce((sum, { counted }) => sum + counted, 0);
	expect(total).toBeGreaterThan(1800);
	expect(total).toBeLessThan(2200);
});

test("the README names the lines of the helper in C", () => {
	const lines = filesOf("native", /\.[ch]$/).reduce((sum, path) => sum + textOf(path).split("\n").length - 1, 0);
	const stated = /helper in C, about ([\d,]+) lines/.exec(textOf("README.md"))![1]!.replace(",", "");
	expect(Math.abs(Number(stated) - lines)).toBeLessThan(300);
});

test("lab 1 names the bytes of its code, and the exercises the lines of own-disk's class", () => {
	const code = /CODE = \[(.*?)\];/s.exec(textOf("docs/labs/01-hello/start.ts"))![1]!.replace(/\/\*.*?\*\//g, "");
	expect(textOf("docs/labs/01-hello/README.md")).toContain(`a program of ${code.match(/0x/g)!.length} bytes`);
	const lines = /^class TalkingDisk .*?^}/ms.exec(textOf("docs/exercises/own-disk.ts"))![0].split("\n").length;
	expect(textOf("docs/exercises/own-disk.md")).toMatch(`in ${lines} lines`);
	expect(textOf("README.md")).toMatch(`in ${lines} lines`);
});

test("links in the documentation lead to files that exist", () => {
	const documents = [...filesOf("docs", /\.md$/), "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
	const broken = documents.flatMap((path) =>
		[...textOf(path).matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
			.map(([, target]) => target!)
			.filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(path), target)))
			.map((target) => `${path}: ${target}`),
	);
	expect(broken).toEqual([]);
});

test("docs/.vitepress/sidebar.ts lists every page", () => {
	const listed = SIDEBAR.flatMap(({ items }) => items ?? []).map(({ link }) => `${link?.slice(1)}.md`);
	expect(PAGES.filter((page) => page !== "docs/index.md" && !listed.includes(page))).toEqual([]);
});

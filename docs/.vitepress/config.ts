/*
 * The documentation as a static site: `npm run docs`. The pages are the Markdown files of docs/ and of the repository's top,
 * as they are; a page that is not in the sidebar fails a test. A link to a source file stays what it says, without a link.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitepress";
import { SIDEBAR } from "./sidebar.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** All directories but docs, as patterns: what is in them is no page. */
const elsewhere = readdirSync(root, { withFileTypes: true })
	.filter((entry) => entry.isDirectory() && entry.name !== "docs")
	.map(({ name }) => `${name}/**`);

/** Whether `href`, as `page` has it, names a file or directory of the repository that is not a page of the site. */
function isSource(href: string, page: string): boolean {
	if (/^([a-z]+:|#|\/)/.test(href)) return false;
	const path = join(root, dirname(page), href.replace(/#.*/, ""));
	if (/\.(md|svg|png|cast)$/.test(path) || !existsSync(path)) return false;
	return !(statSync(path).isDirectory() && existsSync(join(path, "README.md")));
}

export default defineConfig({
	title: "tsvmm",
	description: "A virtual machine monitor in TypeScript for Linux KVM",
	srcDir: "..",
	outDir: "../site",
	cacheDir: "../build/site-cache",
	srcExclude: elsewhere,
	rewrites: { "docs/index.md": "index.md" },
	cleanUrls: false,
	lastUpdated: false,
	metaChunk: true,
	themeConfig: {
		sidebar: SIDEBAR,
		nav: [
			{ text: "Tour", link: "/docs/tour" },
			{ text: "API", link: "/docs/api" },
			{ text: "Glossary", link: "/docs/glossary" },
		],
		outline: [2, 3],
		search: { provider: "local" },
	},
	/* The recording is a file of its own. */
	vite: { build: { assetsInlineLimit: 0 } },
	markdown: {
		/* As elsewhere, so that one link to a section serves both: "ERR_DISK_FORMAT" is err_disk_format. */
		anchor: {
			slugify: (title) =>
				title
					.toLowerCase()
					.replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
					.replaceAll(" ", "-"),
		},
		config(md) {
			/* What is between braces in code is no expression of Vue's. */
			md.renderer.rules.code_inline = (tokens, index) =>
				`<code v-pre>${md.utils.escapeHtml(tokens[index]?.content ?? "")}</code>`;
			const open = md.renderer.rules.link_open;
			const close = md.renderer.rules.link_close;
			if (open === undefined) throw new Error("VitePress has no rule for links any more");
			/* Links do not nest, so one flag is enough. */
			let dropped = false;
			md.renderer.rules.link_open = (tokens, index, options, env, self) => {
				dropped = isSource(String(tokens[index]?.attrGet("href") ?? ""), String(env.relativePath ?? ""));
				return dropped ? "" : open(tokens, index, options, env, self);
			};
			md.renderer.rules.link_close = (tokens, index, options, env, self) => {
				if (dropped) return "";
				return close?.(tokens, index, options, env, self) ?? self.renderToken(tokens, index, options);
			};
		},
	},
});

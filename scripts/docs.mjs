/*
 * `npm run docs`: the documentation as a static site, by VitePress (docs/.vitepress). It works offline.
 *
 *     node scripts/docs.mjs                 builds it in site/
 *     node scripts/docs.mjs --to DIRECTORY  builds it there
 *     node scripts/docs.mjs --serve         shows it in a browser, and each change of a page at once
 */
import { join, relative } from "node:path";
import { build, createServer } from "vitepress";
import { main, root, StepError, say } from "./steps.mjs";

async function docs([flag, directory, ...rest]) {
	if (rest.length > 0 || (flag !== "--to" && directory !== undefined)) throw new StepError("too many arguments");
	if (flag === "--serve") {
		const server = await createServer(join(root, "docs"));
		await server.listen();
		server.printUrls();
		return;
	}
	if (flag !== undefined && (flag !== "--to" || directory === undefined))
		throw new StepError(`unknown argument: ${flag}`);
	const to = directory ?? join(root, "site");
	await build(join(root, "docs"), { outDir: to });
	say("docs", `${relative(process.cwd(), to)}/index.html, for any web server: npx vitepress preview docs`);
}

await main("docs", () => docs(process.argv.slice(2)));

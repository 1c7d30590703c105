/*
 * `npm run diagrams`: draws docs/diagrams/NAME.dot as NAME.svg, by Graphviz. The same source gives the same bytes everywhere,
 * because Graphviz comes as an npm package of one version.
 *
 *     node scripts/diagrams.mjs            draws all
 *     node scripts/diagrams.mjs --check    fails when one is not what would be drawn
 *
 * A node's class says what it is: outside (the host's), native (in C), guest. Colours follow the reader's scheme, light or
 * dark, by a style in each file.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Graphviz } from "@hpcc-js/wasm-graphviz";
import { main, root, StepError } from "./steps.mjs";

const FOLDER = join(root, "docs/diagrams");

const LOOK = `
	bgcolor=transparent fontname="Helvetica,Arial,sans-serif" fontsize=12 nodesep=0.3 ranksep=0.45
	node [shape=box style=rounded fontname="Helvetica,Arial,sans-serif" fontsize=12 margin="0.38,0.09"]
	edge [fontname="Helvetica,Arial,sans-serif" fontsize=10 arrowsize=0.7]
`;

const scheme = ({ ink, line, box, outside, native, guest }) => `
	text { fill: ${ink}; }
	.node path, .node polygon { fill: ${box}; stroke: ${line}; }
	.outside path { fill: ${outside}; } .native path { fill: ${native}; } .guest path { fill: ${guest}; }
	.cluster polygon, .cluster path { fill: none; stroke: ${line}; stroke-dasharray: 4 3; }
	.edge path { fill: none; stroke: ${line}; } .edge polygon { fill: ${line}; stroke: ${line}; }`;

const LIGHT = {
	ink: "#1f2328",
	line: "#59636e",
	box: "#e8f1fd",
	outside: "#eff1f3",
	native: "#fdf0dc",
	guest: "#e2f5e5",
};
const DARK = {
	ink: "#e6edf3",
	line: "#9198a1",
	box: "#17304f",
	outside: "#2a3038",
	native: "#4a3413",
	guest: "#173d22",
};

const STYLE = `<style>${scheme(LIGHT)}
	@media (prefers-color-scheme: dark) {${scheme(DARK).replaceAll("\n", "\n\t")}
	}
</style>`;

/** The diagram as SVG, with our colours in place of Graphviz's. */
function draw(graphviz, source) {
	const svg = graphviz.dot(source.replace("{", `{${LOOK}`), "svg");
	return svg
		.replace(/^.*?(?=<svg)/s, "")
		.replaceAll(/<!--.*?-->\n?/gs, "")
		.replaceAll(/<title>[^<]*<\/title>\n?/g, "")
		.replaceAll(/ (fill|stroke)="[^"]*"/g, "")
		.replace(/(<svg[^>]*>)/, `$1\n${STYLE}`);
}

async function diagrams(args) {
	const unknown = args.filter((word) => word !== "--check");
	if (unknown.length > 0) throw new StepError(`unknown argument: ${unknown.join(" ")}`);
	const graphviz = await Graphviz.load();
	const names = readdirSync(FOLDER).filter((name) => name.endsWith(".dot"));
	for (const name of names) {
		const path = join(FOLDER, name.replace(/dot$/, "svg"));
		const drawn = draw(graphviz, readFileSync(join(FOLDER, name), "utf8"));
		if (!args.includes("--check")) writeFileSync(path, drawn);
		else if (readFileSync(path, "utf8") !== drawn)
			throw new StepError(`${path} is not what ${name} draws: npm run diagrams`);
	}
	const orphans = readdirSync(FOLDER).filter(
		(name) => name.endsWith(".svg") && !names.includes(name.replace(/svg$/, "dot")),
	);
	if (orphans.length > 0) throw new StepError(`drawn of nothing: ${orphans.join(", ")}`);
}

await main("diagrams", () => diagrams(process.argv.slice(2)));

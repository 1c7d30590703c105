/*
 * `npm run plots`: draws the benchmark's series (`npm run bench -- --scale --json`) as docs/plots/NAME.svg, which
 * docs/performance.md shows.
 *
 *     node scripts/plots.mjs               draws docs/plots/scale.json, which is what the benchmark has printed
 *     node scripts/plots.mjs --check       fails when a plot is not what would be drawn
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, View } from "vega";
import { compile } from "vega-lite";
import { main, root, StepError } from "./steps.mjs";

const FOLDER = join(root, "docs/plots");

/** What the rows of a chart say, by the chart's name. */
const CHARTS = {
	"start-memory": { x: "RAM in MiB", y: "time to start", log: 4 },
	"start-cpus": { x: "vCPUs", y: "time to start", log: 2 },
	"start-initrd": { x: "initial RAM disk in MiB", y: "time to start", log: 4 },
	"start-machines": { x: "machines that run", y: "time to start one more" },
	"disk-depth": { x: "requests in flight", y: "4 KiB reads per second", log: 2 },
	"disk-machines": { x: "machines, 16 requests in flight each", y: "4 KiB reads per second" },
};

/** Legible on a white and on a black page. */
const INK = "#808080";
const LINE = "#3987e5";

/** @returns the SVG of each chart that has rows, by its name */
async function draw(rows) {
	const drawn = {};
	for (const [chart, { x, y, log }] of Object.entries(CHARTS)) {
		const points = pointsOf(rows.filter(({ plot }) => plot?.chart === chart));
		if (points.length === 0) continue;
		const scale = log === undefined ? {} : { type: "log", base: log };
		const values = [...new Set(points.map((point) => point.x))];
		const spec = {
			width: 320,
			height: 180,
			data: { values: points },
			mark: { type: "line", point: { filled: true, size: 50, color: LINE }, color: LINE, strokeWidth: 2 },
			encoding: {
				x: { field: "x", type: "quantitative", title: x, scale, axis: { values, grid: false, format: "d" } },
				y: { field: "y", type: "quantitative", title: `${y}, ${points[0].x} = 1`, scale: { zero: true } },
			},
			config: {
				background: null,
				font: "sans-serif",
				view: { stroke: null },
				axis: { labelColor: INK, titleColor: INK, domainColor: INK, tickColor: INK, gridColor: INK, gridOpacity: 0.25 },
			},
		};
		drawn[chart] = `${await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG()}\n`;
	}
	return drawn;
}

/** The first of a series is what its other rows are compared with. */
function pointsOf(rows) {
	const first = rows.slice(0, 1).map(({ plot }) => ({ x: plot.first, y: 1 }));
	return [...first, ...rows.map(({ plot, ours, reference }) => ({ x: plot.x, y: ours / reference }))];
}

/** @throws StepError for a plot that is old, or that nothing draws */
function check(drawn) {
	for (const name of readdirSync(FOLDER).filter((one) => one.endsWith(".svg"))) {
		if (readFileSync(join(FOLDER, name), "utf8") === drawn[name.slice(0, -4)]) continue;
		throw new StepError(`docs/plots/${name} is not what is drawn; run \`npm run plots\``);
	}
}

await main("plots", async () => {
	const drawn = await draw(JSON.parse(readFileSync(join(FOLDER, "scale.json"), "utf8")));
	if (process.argv.includes("--check")) check(drawn);
	else for (const [name, svg] of Object.entries(drawn)) writeFileSync(join(FOLDER, `${name}.svg`), svg);
});

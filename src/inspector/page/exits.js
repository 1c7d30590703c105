/*
 * Two charts over the last minute. The first stacks the exits that TypeScript answers: while it does, a vCPU stands
 * still. The second has what passes without an exit: notifications, chains, interrupts, and bytes on the serial port.
 */
import { byId, h, say, set, svg } from "./dom.js";
import { count } from "./format.js";

const WIDTH = 600;
const HEIGHT = 150;
const SPAN_MS = 60_000;

/** @typedef {{ name: string, label: string, title: string }} Series */

/** @type {Series[]} */
const EXITS = [
	{ name: "io", label: "port I/O", title: "KVM_EXIT_IO: IN and OUT" },
	{ name: "mmio", label: "MMIO", title: "KVM_EXIT_MMIO: an access where no RAM is" },
	{ name: "kicked", label: "kicked", title: "KVM_EXIT_INTR: we stopped the vCPU" },
	{ name: "other", label: "other", title: "any other reason" },
];

/** @type {Series[]} */
const PASSING = [
	{ name: "kicks", label: "notifications", title: "a queue's ioeventfd" },
	{ name: "chains", label: "chains", title: "taken by devices" },
	{ name: "interrupts", label: "interrupts", title: "a device's irqfd" },
	{ name: "printed", label: "bytes printed", title: "on the serial port" },
];

/** @typedef {Record<string, number> & { ms: number }} Sample counts up to a moment */

/** @type {Sample[]} */
const samples = [];
/** @type {(() => void)[]} */
const charts = [];

export function startExits() {
	byId("exits").append(
		chart({ title: "Exits: the vCPU waits", series: EXITS, stacked: true }),
		chart({ title: "Without an exit: it runs on", series: PASSING, stacked: false }),
	);
}

/** @param {Sample[]} more in their order */
export function addSamples(more) {
	for (const sample of more) if (sample.ms > (samples.at(-1)?.ms ?? -1)) samples.push(sample);
	while ((samples[1]?.ms ?? 0) < (samples.at(-1)?.ms ?? 0) - SPAN_MS - 1000 && samples.length > 2) samples.shift();
	for (const draw of charts) draw();
}

/** What happens in a second, between each two samples. @param {Series[]} series */
function ratesOf(series) {
	return samples.slice(1).map((sample, i) => {
		const before = /** @type {Sample} */ (samples[i]);
		const passed = (sample.ms - before.ms) / 1000;
		return {
			ms: sample.ms,
			values: series.map(({ name }) => Math.max(0, ((sample[name] ?? 0) - (before[name] ?? 0)) / passed)),
		};
	});
}

/** The next larger of 1, 2, 5, 10, 20, ... @param {number} value */
function ceiling(value) {
	const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
	return [1, 2, 5, 10].map((step) => step * power).find((limit) => limit >= value) ?? 10 * power;
}

/** @param {{ title: string, series: Series[], stacked: boolean }} options */
function chart({ title, series, stacked }) {
	const shapes = series.map(({ name }) => svg("path", { class: `series ${name}` }));
	const lines = [0, 0.5, 1].map((part) =>
		svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part }),
	);
	const picture = svg(
		"svg",
		{ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
		...lines,
		...shapes,
	);
	const top = h("span", { class: "top" });
	const middle = h("span", { class: "middle" });
	const values = series.map(() => h("dd"));
	const legend = h("dl", { class: "legend" });
	series.forEach(({ name, label, title: tip }, i) => {
		legend.append(h("div", { title: tip }, h("dt", { class: name }, label), /** @type {Node} */ (values[i])));
	});
	const scale = h("div", { class: "scale", "aria-hidden": "true" }, top, middle, h("span", {}, "0"));
	const time = h(
		"div",
		{ class: "time", "aria-hidden": "true" },
		h("span", {}, "one minute ago"),
		h("span", {}, "now"),
	);
	const plot = h("div", { class: stacked ? "plot stacked" : "plot" }, scale, picture);

	charts.push(() => {
		const rates = ratesOf(series);
		const newest = rates.at(-1)?.values ?? [];
		for (const [i, value] of values.entries()) say(value, `${count(newest[i] ?? 0)}/s`);
		const totals = rates.map(({ values: all }) => (stacked ? all.reduce((a, b) => a + b, 0) : Math.max(...all)));
		const limit = ceiling(Math.max(10, ...totals));
		say(top, `${count(limit)}/s`);
		say(middle, count(limit / 2));
		const end = rates.at(-1)?.ms ?? 0;
		const x = (/** @type {number} */ ms) => (WIDTH * (1 - (end - ms) / SPAN_MS)).toFixed(1);
		const y = (/** @type {number} */ value) => (HEIGHT * (1 - value / limit)).toFixed(1);
		const below = rates.map(() => 0);
		shapes.forEach((shape, i) => {
			const base = [...below];
			const upper = rates.map(({ ms, values: all }, at) => {
				const value = all[i] ?? 0;
				if (stacked) below[at] = (below[at] ?? 0) + value;
				return `${x(ms)} ${y(stacked ? (below[at] ?? 0) : value)}`;
			});
			const lower = rates.map(({ ms }, at) => `${x(ms)} ${y(base[at] ?? 0)}`).reverse();
			const points = stacked ? [...upper, ...lower] : upper;
			set(shape, "d", points.length < 2 ? "" : `M ${points.join(" L ")}${stacked ? " Z" : ""}`);
		});
	});
	return h("figure", {}, h("figcaption", {}, title), plot, time, legend);
}

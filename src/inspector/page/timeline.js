/*
 * The boot as a waterfall: each phase is a bar from its beginning to that of the next one. The phases come from the
 * guest's console and from the steps of its drivers.
 */
import { byId, h, say, set, svg } from "./dom.js";
import { seconds } from "./format.js";

const WIDTH = 1000;
const MOST_PHASES = 60;

/** @typedef {{ phase: string, detail: string, ms: number }} Phase */

/** @type {Phase[]} */
const phases = [];
const list = h("ol", { class: "timeline", tabindex: 0, "aria-label": "Phases of the boot" });
const none = h("p", { class: "note" }, "Nothing yet: the phases come from the guest's console, and from its drivers.");
let newestMs = 0;

export function startTimeline() {
	byId("timeline").append(none, list);
}

/** @param {any[]} events @param {number} ms since the machine's start */
export function addEvents(events, ms) {
	for (const event of events) phases.push(phaseOf(event));
	phases.splice(0, phases.length - MOST_PHASES);
	newestMs = Math.max(newestMs, ms);
	set(none, "hidden", phases.length > 0);
	if (events.length > 0 || newestMs < 1.25 * (phases.at(-1)?.ms ?? 0)) draw();
}

/** @param {any} event @returns {Phase} */
function phaseOf(event) {
	const ms = event.t / 1e6;
	if (event.kind === "boot") return { phase: event.phase, detail: event.detail ?? "", ms };
	if (event.kind === "violation") return { phase: "violation", detail: `${event.device}: ${event.what}`, ms };
	return { phase: event.state, detail: event.detail ?? event.reason ?? "", ms };
}

function draw() {
	const first = phases[0]?.ms ?? 0;
	/* The last phase goes on: its bar has a tenth of the width, and no more than a fifth. */
	const last = phases.at(-1)?.ms ?? 0;
	const end = Math.max(Math.min(newestMs, first + (last - first) * 1.25), first + (last - first) * 1.1, first + 1);
	const scale = WIDTH / (end - first);
	while (list.children.length > phases.length) list.lastElementChild?.remove();
	while (list.children.length < phases.length) list.append(emptyRow());
	for (const [i, phase] of phases.entries()) {
		const next = phases[i + 1]?.ms;
		const row = /** @type {Element} */ (list.children[i]);
		const [name, time, picture, detail] = /** @type {Element[]} */ ([...row.children]);
		say(/** @type {Element} */ (name), phase.phase);
		say(
			/** @type {Element} */ (time),
			next === undefined ? seconds(phase.ms) : `${seconds(phase.ms)} +${took(next - phase.ms)}`,
		);
		say(/** @type {Element} */ (detail), phase.detail);
		set(/** @type {Element} */ (detail), "title", phase.detail);
		set(row, "data-phase", phase.phase);
		const bar = /** @type {Element} */ (picture?.firstElementChild);
		set(bar, "x", ((phase.ms - first) * scale).toFixed(1));
		set(bar, "width", Math.max(((next ?? end) - phase.ms) * scale, 3).toFixed(1));
	}
}

/** @param {number} ms */
function took(ms) {
	return ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function emptyRow() {
	const bar = svg("rect", { y: 1, height: 8, rx: 2 });
	const picture = svg("svg", { viewBox: `0 0 ${WIDTH} 10`, preserveAspectRatio: "none", "aria-hidden": "true" }, bar);
	return h("li", {}, h("strong"), h("span", { class: "rate" }), picture, h("span", { class: "note" }));
}

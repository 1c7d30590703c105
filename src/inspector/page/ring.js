/*
 * A virtqueue as a ring (virtio 1.2 §2.7). Both of its indices run on modulo 2^16 and name a slot modulo the size:
 *
 *     used.idx ..... in flight ..... taken ..... waiting ..... avail.idx       clockwise
 *
 * The dial turns by the shortest way forward, so that its motion is that of the indices.
 */
import { h, say, set, svg } from "./dom.js";
import { count } from "./format.js";
import { queueName } from "./virtio-names.js";

const CENTRE = 110;
const RADIUS = 84;
const WIDTH = 18;
/** Chains that are listed. */
const MOST_ROWS = 8;

/** A point of the ring; 0 is the top. @param {number} turns @param {number} radius */
function point(turns, radius) {
	const angle = 2 * Math.PI * turns - Math.PI / 2;
	return `${(CENTRE + radius * Math.cos(angle)).toFixed(2)} ${(CENTRE + radius * Math.sin(angle)).toFixed(2)}`;
}

/** A part of the ring. @param {number} from turns @param {number} length turns, at most 1 */
function arc(from, length) {
	if (length <= 0) return "";
	const end = from + Math.min(length, 0.9999);
	return `M ${point(from, RADIUS)} A ${RADIUS} ${RADIUS} 0 ${length > 0.5 ? 1 : 0} 1 ${point(end, RADIUS)}`;
}

/** A pointer that goes round. @param {string} kind @param {boolean} outside @param {string} label */
function hand(kind, outside, label) {
	const at = outside ? CENTRE - RADIUS - WIDTH / 2 - 3 : CENTRE - RADIUS + WIDTH / 2 + 3;
	const tip = outside ? -11 : 11;
	const shape = svg("path", { d: `M ${CENTRE} ${at} l -6 ${tip} h 12 z` });
	const group = svg("g", { class: `hand ${kind}` }, svg("title", {}, label), shape);
	let slot = -1;
	let turns = 0;
	return {
		group,
		/** @param {number} index @param {number} size */
		turn(index, size) {
			const forward = slot < 0 ? index % size : (((index - slot) % size) + size) % size;
			turns += forward / size;
			slot = index;
			group.style.transform = `rotate(${turns}turn)`;
		},
	};
}

/** Ticks at the slots, as far as there is room for them. @param {number} size */
function ticks(size) {
	const shown = Math.min(size, 64);
	return Array.from(
		{ length: shown },
		(_, i) => `M ${point(i / shown, RADIUS - 9)} L ${point(i / shown, RADIUS + 9)}`,
	).join(" ");
}

/**
 * A queue with its ring, its numbers and its chains in flight.
 *
 * @param {{ deviceId: number, queues: unknown[] }} device
 * @param {any} queue
 * @param {(gpa: number) => void} show shows guest memory
 */
export function queueCard(device, queue, show) {
	const name = queueName(device.deviceId, queue.index, device.queues.length);
	const used = hand("used", false, "used.idx: up to here chains came back");
	const taken = hand("taken", false, "the next chain that the device takes");
	const avail = hand("avail", true, "avail.idx: where the driver puts the next chain");
	const slots = svg("path", { class: "slots" });
	const flight = svg("path", { class: "flight" });
	const waiting = svg("path", { class: "waiting" });
	const track = svg("circle", { class: "track", cx: CENTRE, cy: CENTRE, r: RADIUS });
	const big = svg("text", { class: "big", x: CENTRE, y: CENTRE });
	const small = svg("text", { class: "small", x: CENTRE, y: CENTRE + 32 });
	const rate = svg("text", { class: "small", x: CENTRE, y: CENTRE - 30 });
	const ring = svg(
		"svg",
		{ class: "ring", viewBox: "0 0 220 220", role: "img" },
		...[track, waiting, flight, slots, used.group, taken.group, avail.group, rate, big, small],
	);
	const facts = h("dl", { class: "facts" });
	const chains = h("ul", { class: "chains", "aria-label": `Chains of queue ${queue.index}` });
	const title = h("h4", {}, `Queue ${queue.index} `, h("span", {}, name));
	const card = h("article", { class: "queue" }, title, ring, facts, chains);
	let drawn = 0;

	/** @param {any} one @param {{ chains: number, kicks: number, peak: number } | undefined} rates in a second */
	const update = (one, rates) => {
		const { live, size } = one;
		set(card, "data-live", live !== undefined);
		if (live === undefined || size === 0) {
			for (const part of [flight, waiting]) set(part, "d", "");
			say(big, one.ready ? "ready" : "unused");
			say(small, `up to ${one.maxSize} slots`);
			say(rate, "");
			set(ring, "aria-label", `Queue ${one.index} is not in use; it may have ${one.maxSize} slots`);
			fill(facts, []);
			chains.replaceChildren();
			return;
		}
		if (drawn !== size) set(slots, "d", ticks(size));
		drawn = size;
		const ahead = (live.nextAvail - live.usedIdx) & 0xffff;
		const pending = Math.min((live.availIdx - live.nextAvail) & 0xffff, size);
		set(flight, "d", arc((live.usedIdx % size) / size, ahead / size));
		set(waiting, "d", arc((live.nextAvail % size) / size, pending / size));
		used.turn(live.usedIdx, size);
		taken.turn(live.nextAvail, size);
		avail.turn(live.availIdx, size);
		const most = Math.max(live.inFlight, rates?.peak ?? 0);
		say(big, String(most));
		say(small, most === live.inFlight ? "in flight" : "at most in flight");
		say(rate, `${count(rates?.chains ?? 0)} chains/s`);
		set(
			ring,
			"aria-label",
			`Queue ${one.index}, ${name}: ${size} slots, ${live.inFlight} chains in flight, ${pending} waiting`,
		);
		fill(facts, [
			["slots", String(size)],
			["avail.idx", String(live.availIdx)],
			["next taken", String(live.nextAvail)],
			["used.idx", String(live.usedIdx)],
			["kicks/s", count(rates?.kicks ?? 0)],
			["descriptors", `0x${one.desc.toString(16)}`],
			["available ring", `0x${one.avail.toString(16)}`],
			["used ring", `0x${one.used.toString(16)}`],
		]);
		showChains(chains, live, show);
		set(card, "data-broken", live.broken);
	};
	return Object.assign(card, { update });
}

/** A list of terms. @param {HTMLElement} list @param {[string, string][]} rows */
export function fill(list, rows) {
	if (list.childElementCount !== rows.length) {
		list.replaceChildren(...rows.map(([term]) => h("div", {}, h("dt", {}, term), h("dd"))));
	}
	rows.forEach(([, value], i) => {
		say(/** @type {Element} */ (list.children[i]?.lastElementChild), value);
	});
}

/**
 * The chains in flight with their buffers, each a button that shows its memory.
 *
 * @param {HTMLElement} list
 * @param {any} live
 * @param {(gpa: number) => void} show
 */
function showChains(list, live, show) {
	/* A button must not go away under the pointer, or with the focus. */
	if (list.matches(":hover, :focus-within")) return;
	const text = JSON.stringify([live.chains, live.waiting]);
	if (list.dataset.chains === text) return;
	list.dataset.chains = text;
	const rows = live.chains.slice(0, MOST_ROWS).map((/** @type {any} */ chain) => {
		const buffers = chain.buffers.map((/** @type {any} */ buffer) => {
			const verb = buffer.writable ? "device writes" : "device reads";
			const label = `${verb} ${buffer.bytes} bytes at 0x${buffer.gpa.toString(16)}`;
			const button = h(
				"button",
				{ type: "button", class: `buffer ${buffer.writable ? "writes" : "reads"}`, title: label },
				`${buffer.bytes} B`,
			);
			set(button, "aria-label", `${buffer.bytes} B: ${label}. Show this memory`);
			button.addEventListener("click", () => show(buffer.gpa));
			return button;
		});
		const more = chain.more > 0 ? [`and ${chain.more} more`] : [];
		return h("li", {}, h("span", { class: "head" }, `head ${chain.head}`), ...buffers, ...more);
	});
	if (live.inFlight > rows.length) rows.push(h("li", {}, `and ${live.inFlight - rows.length} more in flight`));
	if (live.waiting.length > 0) rows.push(h("li", {}, `waiting: heads ${live.waiting.join(", ")}`));
	list.replaceChildren(...rows);
}

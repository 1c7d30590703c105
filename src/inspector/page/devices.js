/*
 * The devices: a list of all, and what one of them looks like inside. Virtio devices show their status, what was agreed
 * on, and their queues; devices of the PC platform show their registers.
 */
import { byId, h, say, set, sync } from "./dom.js";
import { count, hex } from "./format.js";
import { fill, queueCard } from "./ring.js";
import { featureNames, STEPS, statusName, typeName } from "./virtio-names.js";

/** @typedef {{ key: string, title: string, kind: string, note: string, rate: number, alarm: boolean }} Row */

/** The device that is shown. */
let chosen = "";
/** The last frame, and what was counted in each second up to it. @type {{ frame: any, rates: Rates } | undefined} */
let last;
/** @type {(gpa: number) => void} */
let showMemory = () => undefined;

/**
 * How often things happen in a second.
 *
 * @typedef {object} Rates
 * @property {(device: string, queue: number) => { chains: number, kicks: number, peak: number } | undefined} queue
 * @property {(device: string) => number} accesses
 */

/** @param {(gpa: number) => void} show shows guest memory */
export function startDevices(show) {
	showMemory = show;
	byId("device-list").addEventListener("keydown", (event) => {
		const tabs = [...byId("device-list").children];
		const at = tabs.findIndex((tab) => tab.getAttribute("data-key") === chosen);
		const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
		const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : at + (step ?? 0);
		const tab = /** @type {HTMLElement | undefined} */ (tabs[(to + tabs.length) % tabs.length]);
		if (tab === undefined || (step === undefined && event.key !== "Home" && event.key !== "End")) return;
		event.preventDefault();
		choose(tab.dataset.key ?? "");
		tab.focus();
	});
}

/** @param {string} key */
function choose(key) {
	chosen = key;
	if (last !== undefined) showDevices(last.frame, last.rates);
}

/** @param {any} frame @param {Rates} rates */
export function showDevices(frame, rates) {
	last = { frame, rates };
	const rows = [
		...frame.virtio.map((/** @type {any} */ one) => virtioRow(one, rates)),
		...frame.platform.map((/** @type {any} */ one) => platformRow(one, rates)),
	];
	if (!rows.some(({ key }) => key === chosen)) chosen = rows[0]?.key ?? "";
	sync(byId("device-list"), rows, ({ key }) => key, tab);
	const panel = byId("device");
	set(panel, "aria-labelledby", `tab-${chosen}`);
	const virtio = frame.virtio.find((/** @type {any} */ one) => `virtio-${one.id}` === chosen);
	const platform = frame.platform.find((/** @type {any} */ one) => `platform-${one.port}` === chosen);
	/* A device that was replaced by another type of device has another panel. */
	const key = virtio === undefined ? chosen : `${chosen} ${virtio.name} ${virtio.queues.length}`;
	const items = virtio === undefined && platform === undefined ? [] : [key];
	sync(
		panel,
		items,
		(one) => one,
		() => (virtio === undefined ? platformPanel() : virtioPanel(virtio)),
	);
	const shown = /** @type {any} */ (panel.firstElementChild);
	shown?.show(virtio ?? platform, rates);
}

/** @param {any} one @param {Rates} rates @returns {Row} */
function virtioRow(one, rates) {
	const rate = one.queues.reduce(
		(/** @type {number} */ sum, /** @type {any} */ queue) => sum + (rates.queue(one.name, queue.index)?.chains ?? 0),
		0,
	);
	const alarm = (one.status & 192) !== 0;
	return {
		key: `virtio-${one.id}`,
		title: one.id,
		kind: `virtio ${typeName(one.deviceId)}`,
		note: statusName(one.status),
		rate,
		alarm,
	};
}

/** @param {any} one @param {Rates} rates @returns {Row} */
function platformRow(one, rates) {
	const ports = one.ports === 1 ? hex(one.port) : `${hex(one.port)} to ${hex(one.port + one.ports - 1)}`;
	return {
		key: `platform-${one.port}`,
		title: one.name,
		kind: "platform",
		note: ports,
		rate: rates.accesses(one.name),
		alarm: false,
	};
}

/** A tab of the list. @param {Row} row */
function tab({ key, title, kind }) {
	const note = h("span", { class: "note" });
	const rate = h("span", { class: "rate" });
	const element = h(
		"button",
		{ type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "device" },
		h("strong", {}, title),
		h("span", { class: "kind" }, kind),
		note,
		rate,
	);
	element.addEventListener("click", () => choose(key));
	/** @param {Row} row */
	const update = (row) => {
		say(note, row.note);
		say(rate, row.rate > 0 ? `${count(row.rate)}/s` : "");
		set(element, "aria-selected", key === chosen ? "true" : "false");
		set(element, "tabindex", key === chosen ? 0 : -1);
		set(element, "data-alarm", row.alarm);
		set(element, "data-busy", row.rate > 0);
	};
	return Object.assign(element, { update });
}

/** @param {any} device */
function virtioPanel(device) {
	const steps = h("ol", { class: "steps", "aria-label": "Device status" });
	for (const { name } of STEPS) steps.append(h("li", {}, name));
	const alarm = h("p", { class: "alarm", hidden: true });
	const facts = h("dl", { class: "facts" });
	const features = h("ul", { class: "features", "aria-label": "Features" });
	const queues = h("div", { class: "queues" });
	const config = h("pre", { tabindex: 0, "aria-label": "Config space" });
	const panel = h(
		"div",
		{},
		...[h("h3", {}, device.name, " ", h("span", {}, `virtio ${typeName(device.deviceId)}`)), steps, alarm, queues],
		h("details", { open: true }, h("summary", {}, "Features: offered, and taken by the driver"), features),
		h("details", { open: true }, h("summary", {}, "Registers and config space"), facts, config),
	);
	const cards = device.queues.map((/** @type {any} */ queue) => queueCard(device, queue, showMemory));
	queues.append(...cards);
	let shown = "";

	/** @param {any} one @param {Rates} rates */
	const show = (one, rates) => {
		STEPS.forEach(({ bit, name }, i) => {
			const step = /** @type {Element} */ (steps.children[i]);
			const reached = (one.status & bit) !== 0;
			set(step, "data-reached", reached);
			set(step, "aria-label", `${name}: ${reached ? "reached" : "not reached"}`);
		});
		set(alarm, "hidden", (one.status & 192) === 0);
		say(alarm, one.status & 128 ? "FAILED: the driver has given up" : "DEVICE_NEEDS_RESET: the driver broke the rules");
		fill(facts, [
			["registers at", hex(one.address)],
			["interrupt pin", String(one.gsi)],
			["Status", hex(one.status)],
			["InterruptStatus", hex(one.interruptStatus)],
			["ConfigGeneration", String(one.configGeneration)],
			["QueueSel", String(one.queueSel)],
			["DeviceFeatures", one.features],
			["DriverFeatures", one.driverFeatures],
		]);
		const text = `${one.features} ${one.driverFeatures}`;
		if (text !== shown) features.replaceChildren(...featureItems(one));
		shown = text;
		say(config, hexLines(one.config) || "This device has no config space.");
		for (const queue of one.queues) cards[queue.index]?.update(queue, rates.queue(one.name, queue.index));
	};
	return Object.assign(panel, { show });
}

/** @param {any} one */
function featureItems({ deviceId, features, driverFeatures }) {
	const taken = BigInt(driverFeatures);
	return featureNames(deviceId, features).map(({ bit, name }) => {
		const isTaken = ((taken >> BigInt(bit)) & 1n) === 1n;
		return h(
			"li",
			{ "data-taken": isTaken, title: `bit ${bit}` },
			name,
			h("span", { class: "hidden" }, isTaken ? ", taken" : ", not taken"),
		);
	});
}

function platformPanel() {
	const title = h("h3");
	const facts = h("dl", { class: "facts" });
	const none = h("p", {}, "This device keeps nothing between two accesses.");
	const panel = h("div", {}, title, facts, none);
	/** @param {any} one */
	const show = (one) => {
		say(title, `${one.name} at port ${hex(one.port)}`);
		const registers = Object.entries(one.registers ?? {}).filter(([name]) => name !== "version");
		set(none, "hidden", registers.length > 0);
		if (facts.dataset.names !== registers.map(([name]) => name).join()) facts.replaceChildren();
		facts.dataset.names = registers.map(([name]) => name).join();
		fill(
			facts,
			registers.map(([name, value]) => [name, valueText(value)]),
		);
	};
	return Object.assign(panel, { show });
}

/** @param {unknown} value */
function valueText(value) {
	if (typeof value === "number" && Number.isInteger(value) && value >= 0) return hex(value);
	if (typeof value === "string") return value === "" ? "none" : value;
	return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** 16 bytes a line. @param {string} digits */
function hexLines(digits) {
	const pairs = digits.match(/../g) ?? [];
	const lines = [];
	for (let at = 0; at < pairs.length; at += 16)
		lines.push(`${at.toString(16).padStart(3, "0")}  ${pairs.slice(at, at + 16).join(" ")}`);
	return lines.join("\n");
}

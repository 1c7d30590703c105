/*
 * What drivers asked of their devices: one row for each chain that came back, and for each new device status. A busy
 * guest fills the server's log faster than anybody reads: then rows are left out, and their number is shown.
 */
import { byId, h, say } from "./dom.js";
import { duration, seconds, size } from "./format.js";
import { statusName } from "./virtio-names.js";

const MOST_ROWS = 200;

const body = h("tbody");
const note = h("p", { class: "note" });
const filter = h("select", {}, h("option", { value: "" }, "all devices"));
let held = false;

export function startRequests() {
	const heads = ["time", "device", "request", "took"].map((name) => h("th", { scope: "col" }, name));
	const hold = h("button", { type: "button", "aria-pressed": "false" }, "Hold the list");
	hold.addEventListener("click", () => {
		held = !held;
		hold.setAttribute("aria-pressed", String(held));
	});
	filter.addEventListener("change", () => {
		for (const row of body.rows) row.hidden = filter.value !== "" && row.dataset.device !== filter.value;
	});
	const table = h(
		"table",
		{},
		h("caption", { class: "hidden" }, "Requests, the newest first"),
		h("thead", {}, h("tr", {}, ...heads)),
		body,
	);
	byId("requests").append(
		h("div", { class: "bar" }, h("label", {}, "Show ", filter), hold),
		h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "List of requests" }, table),
		note,
	);
}

/** @param {any[]} entries @param {number} left out */
export function addRequests(entries, left) {
	say(note, left > 0 ? `${left} requests were left out, because there were too many.` : "");
	if (held) return;
	const rows = entries.map(rowOf);
	for (const { dataset } of rows) addDevice(dataset.device ?? "");
	for (const row of rows) row.hidden = filter.value !== "" && row.dataset.device !== filter.value;
	body.prepend(...rows.reverse());
	while (body.rows.length > MOST_ROWS) body.lastElementChild?.remove();
}

/** @param {string} name */
function addDevice(name) {
	if ([...filter.options].some(({ value }) => value === name)) return;
	filter.append(h("option", { value: name }, name));
}

/** @param {any} entry */
function rowOf(entry) {
	const { ms, device, queue, head, readable, writable, written, micros, status, request, answer } = entry;
	const row = h("tr", { "data-device": device });
	const cell = (/** @type {(Node | string)[]} */ ...children) => row.append(h("td", {}, ...children));
	cell(seconds(ms));
	if (status !== undefined) {
		cell(device);
		cell(`status ${statusName(status)}`);
		cell("");
		return row;
	}
	cell(`${device} `, h("span", { class: "note" }, `queue ${queue}`));
	/* Words of the specification without their common beginning. */
	const short = (/** @type {string} */ words) => words.replace(/\bVIRTIO_[A-Z]+_(?:[A-Z]_)?/g, "");
	const parts = [];
	if (readable > 0) parts.push(`${size(readable)} to the device`);
	if (writable > 0) parts.push(`${size(written)} of ${size(writable)} back`);
	const words = [request, answer].filter((word) => word !== undefined).map(short);
	const title = words.length > 0 ? [h("strong", { title: [request, answer].join(", ") }, words.join(" → ")), " "] : [];
	cell(...title, h("span", { class: "note" }, `head ${head}: ${parts.join(", ")}`));
	cell(duration(micros));
	return row;
}

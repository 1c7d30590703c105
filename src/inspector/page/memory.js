/*
 * Guest memory as bytes and characters: by guest-physical address at any time, and by virtual address while the guest
 * stands still. A virtual address is shown with its walk through the guest's page tables, from CR3 to the page.
 */
import { get } from "./connection.js";
import { byId, h, say, set } from "./dom.js";
import { bytesOf, size } from "./format.js";
import { chosenVcpu } from "./vcpu.js";

const BYTES = 256n;
const PER_LINE = 16;

const address = h("input", {
	type: "text",
	spellcheck: "false",
	autocomplete: "off",
	id: "memory-address",
	placeholder: "0x100000",
});
const kind = h(
	"select",
	{ id: "memory-kind" },
	h("option", { value: "physical" }, "Guest-physical"),
	h("option", { value: "virtual" }, "Virtual"),
);
const walk = h("ol", { class: "walk", "aria-label": "Page-table walk", hidden: true });
const output = h("pre", { tabindex: 0, role: "region", "aria-label": "Bytes of guest memory", hidden: true });
const failure = h("p", { class: "alarm", role: "alert", hidden: true });

export function startMemory() {
	const read = h("button", { type: "submit" }, "Read");
	const earlier = h("button", { type: "button" }, "Earlier");
	const later = h("button", { type: "button" }, "Later");
	earlier.addEventListener("click", () => move(-BYTES));
	later.addEventListener("click", () => move(BYTES));
	const labels = [
		h("label", { for: "memory-kind", class: "hidden" }, "Kind of address"),
		h("label", { for: "memory-address" }, "address"),
	];
	const form = h(
		"form",
		{ class: "bar" },
		/** @type {Node} */ (labels[0]),
		kind,
		/** @type {Node} */ (labels[1]),
		address,
		read,
		earlier,
		later,
	);
	form.addEventListener("submit", (event) => {
		event.preventDefault();
		void show();
	});
	byId("memory").append(form, failure, walk, output);
}

/** Shows the bytes at a guest-physical address, and goes there. @param {number} gpa */
export function showMemory(gpa) {
	go("physical", BigInt(gpa));
}

/** Shows the bytes at a virtual address and its walk, and goes there. @param {bigint} virtual */
export function showVirtual(virtual) {
	go("virtual", virtual);
}

/** @param {string} which @param {bigint} to */
function go(which, to) {
	kind.value = which;
	address.value = `0x${to.toString(16)}`;
	void show();
	byId("memory").scrollIntoView({ block: "nearest" });
}

/** @param {bigint} bytes */
function move(bytes) {
	try {
		const to = BigInt(address.value.trim() || "0") + bytes;
		address.value = `0x${(to < 0n ? 0n : to).toString(16)}`;
	} catch {
		/* The server says what is wrong with it. */
	}
	void show();
}

async function show() {
	const wanted = address.value.trim() || address.placeholder;
	try {
		const query = { address: wanted, length: String(BYTES) };
		const isVirtual = kind.value === "virtual";
		const found = isVirtual ? await get("virtual", { ...query, vcpu: chosenVcpu() }) : await get("memory", query);
		failure.hidden = true;
		walk.hidden = !isVirtual;
		if (isVirtual) showWalk(found.walk);
		output.hidden = found.bytes === "";
		say(output, dump(BigInt(isVirtual ? found.walk.address : found.address), bytesOf(found.bytes)));
	} catch (error) {
		say(failure, /** @type {Error} */ (error).message);
		failure.hidden = false;
	}
}

/** The way from CR3 to the page, each table a button. @param {any} found */
function showWalk({ mode, levels, gpa, pageBytes, writable, user, executable, fault }) {
	const steps = levels.map((/** @type {any} */ level) => {
		const flags = [
			level.present ? "present" : "not present",
			...(level.present
				? [
						level.writable ? "writable" : "read-only",
						level.user ? "user" : "kernel",
						level.executable ? "executable" : "no execute",
					]
				: []),
			...(level.accessed ? ["accessed"] : []),
			...(level.dirty ? ["dirty"] : []),
			...(level.leaf && level.present ? ["maps the page"] : []),
		];
		const table = h("button", { type: "button", class: "link" }, `0x${level.tableGpa.toString(16)}`);
		set(table, "aria-label", `0x${level.tableGpa.toString(16)}: show this table in memory`);
		table.addEventListener("click", () => showMemory(level.tableGpa + level.index * 8));
		const step = h(
			"li",
			{ "data-present": level.present },
			h("strong", {}, `${level.table}[${level.index}]`),
			h("span", {}, "table at ", table),
			h("code", {}, level.entry),
			h("span", { class: "note" }, flags.join(", ")),
		);
		return step;
	});
	if (fault !== undefined) steps.push(h("li", { class: "fault" }, h("strong", {}, "not mapped"), h("span", {}, fault)));
	else {
		const page = h("button", { type: "button", class: "link" }, `0x${gpa.toString(16)}`);
		set(page, "aria-label", `0x${gpa.toString(16)}: show this memory`);
		page.addEventListener("click", () => showMemory(gpa));
		const rights = [
			writable ? "writable" : "read-only",
			user ? "user" : "kernel",
			executable ? "executable" : "no execute",
		];
		const title = mode === "none" ? "no paging" : `page of ${size(pageBytes)}`;
		steps.push(
			h(
				"li",
				{ class: "page" },
				h("strong", {}, title),
				h("span", {}, "guest-physical ", page),
				h("span", { class: "note" }, rights.join(", ")),
			),
		);
	}
	walk.replaceChildren(...steps);
}

/** @param {bigint} from @param {Uint8Array} bytes */
function dump(from, bytes) {
	const lines = [];
	for (let at = 0; at < bytes.length; at += PER_LINE) {
		const line = [...bytes.subarray(at, at + PER_LINE)];
		const digits = line.map((byte) => byte.toString(16).padStart(2, "0"));
		const left = digits.slice(0, 8).join(" ").padEnd(23);
		const right = digits.slice(8).join(" ").padEnd(23);
		const characters = line.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
		lines.push(`${(from + BigInt(at)).toString(16).padStart(12, "0")}  ${left}  ${right}  ${characters}`);
	}
	return lines.join("\n");
}

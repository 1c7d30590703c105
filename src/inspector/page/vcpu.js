/*
 * A vCPU that stands still: the instructions at RIP, its registers, and a step. What has changed since it stood still
 * before is marked. While it runs, nobody can look.
 */
import { get } from "./connection.js";
import { byId, h, say, set } from "./dom.js";
import { bytesOf } from "./format.js";
import { showVirtual } from "./memory.js";
import { fill } from "./ring.js";

const GROUPS = [
	["rip", "rsp", "rbp", "rflags"],
	["rax", "rbx", "rcx", "rdx", "rsi", "rdi"],
	["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
	["cr0", "cr2", "cr3", "cr4", "efer"],
];
/** Registers of which all digits are shown. */
const WIDE = new Set(GROUPS.slice(0, 3).flat());

const select = h("select", { id: "vcpu-number" });
const note = h("p", { class: "note" });
const where = h("p", { class: "where" });
const code = h("ol", { class: "code", tabindex: 0, "aria-label": "Instructions at RIP" });
const registers = h("dl", { class: "registers" });
const facts = h("dl", { class: "facts" });
/** @type {Record<string, string>} */
let before = {};
/** The state that is shown: a number of stops, or none. */
let shown = "";

/** @param {number} cpus */
export function startVcpu(cpus) {
	if (select.options.length === cpus) return;
	select.replaceChildren(...Array.from({ length: cpus }, (_, i) => h("option", { value: i }, `vCPU ${i}`)));
	const label = h("label", { for: "vcpu-number" }, "Show ");
	if (byId("vcpu").childElementCount > 0) return;
	select.addEventListener("change", () => {
		before = {};
		shown = "";
		void look();
	});
	code.append(h("li", {}, "No stop yet."));
	const left = h("div", {}, where, code);
	const right = h("div", {}, registers, facts);
	byId("vcpu").append(h("div", { class: "bar" }, label, select, note), h("div", { class: "vcpu" }, left, right));
}

/** The vCPU whose step is asked for. */
export function chosenVcpu() {
	return Number(select.value || "0");
}

/** A frame has come. @param {string} state @param {number} stops how often the machine has stopped */
export function showVcpu(state, stops) {
	const stands = state === "paused" || state === "created";
	set(byId("vcpu"), "data-running", !stands);
	const now = stands ? `${state} ${stops}` : "";
	if (!stands) say(note, "It runs. Pause it to look; what is below is from its last stop.");
	if (now !== "" && now !== shown) void look();
	shown = now;
}

async function look() {
	try {
		const view = await get("vcpu", { vcpu: chosenVcpu() });
		/* It has been resumed meanwhile. */
		if (view.registers === undefined) return;
		say(note, `${view.bits}-bit code, ring ${view.ring}, ${view.paging === "none" ? "no" : view.paging} paging`);
		say(where, view.where ?? "");
		showCode(view);
		showRegisters(view);
	} catch (error) {
		say(note, /** @type {Error} */ (error).message);
	}
}

/** @param {any} view */
function showCode(view) {
	const lines = view.code.map((/** @type {any} */ one, /** @type {number} */ i) => {
		const bytes = [...bytesOf(one.bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
		const text = one.text ?? (view.disassembled ? "(no instruction)" : "");
		const symbol = one.symbol === undefined ? [] : [h("span", { class: "symbol" }, ` ${one.symbol}`)];
		const line = h(
			"li",
			{},
			h("span", { class: "address" }, one.address.slice(2)),
			h("code", {}, text, ...symbol),
			h("span", { class: "bytes" }, bytes),
		);
		if (i === 0) set(line, "aria-current", "true");
		return line;
	});
	if (lines.length === 0) lines.push(h("li", {}, "RIP is where no memory is mapped."));
	if (!view.disassembled)
		lines.push(h("li", { class: "note" }, "For instructions install the package iced-x86: npm install iced-x86"));
	code.replaceChildren(...lines);
}

/** @param {any} view */
function showRegisters(view) {
	registers.replaceChildren(
		...GROUPS.flatMap((names) =>
			names.map((name) => {
				const value = view.registers[name];
				const isNew = before[name] !== undefined && before[name] !== value;
				const digits = `0x${value.slice(2).padStart(WIDE.has(name) ? 16 : 1, "0")}`;
				const button = h("button", { type: "button", class: "link", "data-changed": isNew }, digits);
				set(button, "aria-label", `${name} ${digits}${isNew ? ", changed" : ""}. Show this memory`);
				button.addEventListener("click", () => showVirtual(BigInt(value)));
				return h(
					"div",
					{},
					h("dt", {}, name),
					h(
						"dd",
						{},
						name === "rflags" ? h("span", { "data-changed": isNew }, `${value} ${view.flags.join(" ")}`) : button,
					),
				);
			}),
		),
	);
	before = view.registers;
	fill(
		facts,
		view.segments.map((/** @type {any} */ one) => [one.name, `0x${one.selector.toString(16)} base ${one.base}`]),
	);
}

/*
 * The guest's console: what it prints on its serial port, and a line to type. Sequences that move the cursor or set
 * colours are left out. A carriage return without a line feed begins the line again.
 */

import { post } from "./connection.js";
import { byId, h } from "./dom.js";

const MOST_CHARACTERS = 200_000;
const ESCAPE = String.fromCharCode(27);
const BELL = String.fromCharCode(7);
const SEQUENCES = new RegExp(
	`${ESCAPE}(?:\\[[0-9;?]*[ -/]*[@-~]|\\][^${BELL}${ESCAPE}]*(?:${BELL}|${ESCAPE}\\\\)|[@-Z\\\\-_])`,
	"g",
);
/** A sequence whose end has not come yet keeps its beginning. */
const KEPT = `\n\t\r\b${ESCAPE}`;

const output = h("pre", {
	class: "terminal",
	tabindex: 0,
	role: "log",
	"aria-live": "off",
	"aria-label": "Output of the guest",
});
let decoder = new TextDecoder();
let text = "";

/** @param {(message: string) => void} complain */
export function startConsole(complain) {
	const line = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "type to the guest" });
	const form = h(
		"form",
		{},
		h("label", { class: "hidden", for: "console-line" }, "A line for the guest"),
		line,
		h("button", { type: "submit" }, "Send"),
	);
	line.id = "console-line";
	form.addEventListener("submit", (event) => {
		event.preventDefault();
		post("input", { text: `${line.value}\n` }).catch((error) => complain(error.message));
		line.value = "";
	});
	byId("console").append(output, form);
}

/** @param {string} base64 */
export function addOutput(base64) {
	if (base64 === "") return;
	const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
	const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
	text = settle(readable(text + decoder.decode(bytes, { stream: true })));
	if (text.length > MOST_CHARACTERS) text = text.slice(text.indexOf("\n", text.length - MOST_CHARACTERS) + 1);
	output.textContent = text;
	if (atEnd) output.scrollTop = output.scrollHeight;
}

/** Begins again with the output as a whole. @param {string} base64 */
export function setOutput(base64) {
	decoder = new TextDecoder();
	text = "";
	addOutput(base64);
}

/** Without what only a terminal understands. @param {string} all */
function readable(all) {
	return all
		.replaceAll("\r\n", "\n")
		.replace(SEQUENCES, "")
		.replace(/\p{Cc}/gu, (control) => (KEPT.includes(control) ? control : ""));
}

/** Carries out backspaces and returns, except for what is not complete at the end. @param {string} all */
function settle(all) {
	if (!/[\b\r]/.test(all)) return all;
	return all
		.split("\n")
		.map((line) => {
			let done = line.replace(/\r+$/, "");
			const end = line.slice(done.length);
			done = done.slice(done.lastIndexOf("\r") + 1);
			while (/[^\b]\b/.test(done)) done = done.replace(/[^\b]\b/, "");
			return done.replaceAll("\b", "") + end;
		})
		.join("\n");
}

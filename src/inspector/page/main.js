/*
 * The inspector's page: takes frames from tsvmm and gives them to its parts, and carries out the buttons.
 */

import { follow, post } from "./connection.js";
import { addOutput, setOutput, startConsole } from "./console.js";
import { showDevices, startDevices } from "./devices.js";
import { byId, say, set } from "./dom.js";
import { addSamples, startExits } from "./exits.js";
import { size } from "./format.js";
import { showMemory, startMemory } from "./memory.js";
import { addRequests, startRequests } from "./requests.js";
import { addEvents, startTimeline } from "./timeline.js";
import { chosenVcpu, showVcpu, startVcpu } from "./vcpu.js";

const pause = /** @type {HTMLButtonElement} */ (byId("pause"));
const step = /** @type {HTMLButtonElement} */ (byId("step"));
const resume = /** @type {HTMLButtonElement} */ (byId("resume"));
/** @type {any} */
let before;

/** Says something that went wrong. @param {string} message */
function complain(message) {
	say(byId("notice"), message);
	byId("notice").hidden = message === "";
}

/** Shows a state, and says it to those who do not see it. @param {string} state @param {string} words */
function setState(state, words) {
	const output = byId("state");
	if (output.dataset.state !== state) say(byId("announce"), `The guest: ${words}`);
	output.dataset.state = state;
	say(output, words);
	/* A button that has the focus keeps it: it is not disabled, and does nothing. */
	set(pause, "aria-disabled", state === "running" ? undefined : "true");
	set(step, "aria-disabled", state === "paused" ? undefined : "true");
	set(resume, "aria-disabled", state === "paused" ? undefined : "true");
}

/** "running", "paused", "paused: a step". @param {any} frame */
function wordsOf({ state, stop }) {
	if (state !== "paused" || stop === undefined || stop.kind === "pause") return state;
	return stop.address === undefined ? `paused: a ${stop.kind}` : `paused: a ${stop.kind} at ${stop.address}`;
}

/** @param {string} action */
function act(action) {
	complain("");
	post(action, action === "step" ? { vcpu: chosenVcpu() } : {}).catch((error) => complain(error.message));
}

/** How often things happen in a second, from two frames. @param {any} frame @param {any} earlier */
function ratesOf(frame, earlier) {
	const passed = earlier === undefined ? 1 : Math.max((frame.ms - earlier.ms) / 1000, 0.001);
	const rate = (/** @type {number | undefined} */ now = 0, /** @type {number | undefined} */ then = 0) =>
		Math.max(0, (now - then) / passed);
	return {
		queue: (/** @type {string} */ device, /** @type {number} */ queue) => {
			const now = frame.queues[`${device}#${queue}`];
			const then = earlier?.queues[`${device}#${queue}`];
			if (now === undefined || earlier === undefined) return undefined;
			return { chains: rate(now.chains, then?.chains), kicks: rate(now.kicks, then?.kicks), peak: now.peak };
		},
		accesses: (/** @type {string} */ device) =>
			earlier === undefined ? 0 : rate(frame.accesses[device], earlier.accesses[device]),
	};
}

/** @param {any} line */
function take(line) {
	complain("");
	if (line.machine !== undefined) {
		const { kernel, cpus, memoryMiB, cmdline } = line.machine;
		const name = kernel.slice(kernel.lastIndexOf("/") + 1);
		say(byId("machine"), `${name} · ${cpus} vCPU${cpus === 1 ? "" : "s"} · ${size(memoryMiB * 2 ** 20)}`);
		byId("machine").title = cmdline;
		document.title = `${name} · tsvmm inspector`;
		addSamples(line.samples);
		startVcpu(cpus);
	}
	if (line.ended !== undefined) {
		setOutput(line.console);
		setState("ended", line.ended);
	}
	if (line.counts === undefined) return;
	setState(line.state, wordsOf(line));
	showVcpu(line.state, line.stops);
	addSamples([{ ms: line.ms, ...line.counts }]);
	showDevices(line, ratesOf(line, before));
	addRequests(line.log, line.left);
	addEvents(line.events, line.ms);
	addOutput(line.console);
	before = line;
}

startExits();
startTimeline();
startDevices(showMemory);
startRequests();
startConsole(complain);
startMemory();
pause.addEventListener("click", () => act("pause"));
step.addEventListener("click", () => act("step"));
resume.addEventListener("click", () => act("resume"));
document.addEventListener("keydown", (event) => {
	const action = { F8: "pause", F9: "resume", F10: "step" }[event.key];
	if (action === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
	event.preventDefault();
	act(action);
});
follow({
	line: take,
	lost: (why) => {
		setState("lost", "no connection");
		complain(why);
	},
});

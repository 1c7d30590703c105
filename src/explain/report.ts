/*
 * An explanation as text for a terminal. What the guest wrote has no control characters here.
 */
import { printable } from "../base/log.ts";
import type { DeviceSummary, Explanation } from "./explanation.ts";

const LINE_CHARACTERS = 200;
const MOST_EXITS = 8;
const MOST_PHASES = 40;
const SLOWEST = 3;

/** The whole report, its lines ended. */
export function report(explanation: Explanation): string {
	const { look } = explanation;
	const parts = [
		headline(explanation),
		section("Why", why(explanation)),
		section("What happened", look === undefined ? happened(explanation) : []),
		section("Slowest phases", look === undefined ? slowest(explanation) : []),
		section("Exits", exits(explanation)),
		section("Devices", explanation.devices.map(device)),
		section(
			"Busiest registers",
			explanation.places.map(({ place, reads, writes }) => `${place}: ${reads} reads, ${writes} writes`),
		),
		section(look === undefined ? "At the end" : "Where it stands", state(explanation)),
		section("The console's last lines", explanation.output.map(shortened)),
	];
	return parts.filter((part) => part !== "").join("\n");
}

function section(title: string, lines: readonly string[]): string {
	if (lines.length === 0) return "";
	return [title, ...lines.map((line) => `  ${printable(line)}`), ""].join("\n");
}

function headline({ machine, lastT, end, events, lost, look }: Explanation): string {
	const what =
		machine === undefined
			? "a machine"
			: `${machine.kernel}, ${machine.cpus} vCPU${machine.cpus === 1 ? "" : "s"}, ${machine.memoryMiB} MiB`;
	const ending =
		end === undefined ? "still running" : `${end.reason}${end.detail === undefined ? "" : `: ${end.detail}`}`;
	if (look !== undefined) {
		const how = end === undefined ? look.state : ending;
		const told = `${what}; ${how}, looked at for ${look.seconds} s: ${events} events`;
		return printable(
			`${told}\nwhat was before is not known: --trace-file FILE.jsonl traces a machine from its start\n`,
		);
	}
	const missing = lost > 0 ? `, and ${lost} are missing` : "";
	return printable(`${what}; ${seconds(lastT)} to the end of the trace: ${ending}; ${events} events${missing}\n`);
}

function why({ findings, end, look }: Explanation): string[] {
	if (findings.length === 0) {
		if (end === undefined || end.reason === "power-off" || end.reason === "stopped")
			return [`nothing is wrong that ${look === undefined ? "the events show" : "its state shows"}`];
		return ["no rule knows a reason for this end"];
	}
	return findings.flatMap(({ cause, what, because, hint }, i) => [
		`${i + 1}. ${what} [${cause}]`,
		...because.map((line) => `   because ${line}`),
		...(hint === undefined ? [] : [`   hint: ${hint}`]),
	]);
}

/** Phases and the first use of each device, in one row. */
function happened({ phases, devices }: Explanation): string[] {
	const rows = phases.map(({ t, phase, detail, kernelSeconds }) => {
		const clock = kernelSeconds === undefined ? "" : ` (kernel clock ${kernelSeconds})`;
		return { t, text: `${phase}${detail === undefined ? "" : `: ${detail}`}${clock}` };
	});
	for (const { id, firstT, firstChainT, firstRequest } of devices) {
		if (firstT !== undefined) rows.push({ t: firstT, text: `first access to ${id}` });
		if (firstChainT === undefined) continue;
		rows.push({ t: firstChainT, text: `first chain of ${id}${firstRequest === undefined ? "" : `: ${firstRequest}`}` });
	}
	rows.sort((a, b) => a.t - b.t);
	const shown = rows.slice(0, MOST_PHASES).map(({ t, text }) => `${seconds(t).padStart(10)}  ${text}`);
	return rows.length > MOST_PHASES ? [...shown, `and ${rows.length - MOST_PHASES} more`] : shown;
}

function slowest({ phases, lastT }: Explanation): string[] {
	return phases
		.toSorted((a, b) => b.lasted - a.lasted)
		.slice(0, SLOWEST)
		.filter(({ lasted }) => lasted > 0)
		.map(({ phase, lasted }) => `${seconds(lasted).padStart(10)}  ${phase} (${Math.round((100 * lasted) / lastT)} %)`);
}

function exits({ exits: all, lastT }: Explanation): string[] {
	const sum = all.reduce((total, { count }) => total + count, 0);
	if (sum === 0) return [];
	const rate = lastT === 0 ? "" : `, ${Math.round(sum / (lastT / 1e9))} a second`;
	const rows = all.slice(0, MOST_EXITS).map(({ reason, count, took }) => {
		const bar = "#".repeat(Math.max(1, Math.round((30 * count) / sum)));
		return `${String(count).padStart(9)}  ${reason.padEnd(24)} ${`${(took / 1e6).toFixed(1)} ms`.padStart(11)}  ${bar}`;
	});
	return [`${sum} in all${rate}; the time is that until the vCPU went back`, ...rows];
}

function device({
	id,
	name,
	readyT,
	status,
	accesses,
	chains,
	interrupts,
	meanTook,
	longestTook,
}: DeviceSummary): string {
	const ready =
		readyT === undefined
			? status.length > 0
				? `Status ${status.join(" ")}`
				: ""
			: `driver ready at ${seconds(readyT)}`;
	const took = meanTook === undefined ? "" : `${micros(meanTook)} a request, longest ${micros(longestTook ?? 0)}`;
	const counts = [
		...(accesses > 0 ? [`${accesses} accesses`] : []),
		...(chains > 0 ? [`${chains} chains`] : []),
		...(interrupts > 0 ? [`${interrupts} interrupts`] : []),
	];
	const words = [ready, counts.join(", "), took].filter((part) => part !== "");
	return `${id}${id === name ? "" : ` (${name})`}: ${words.join("; ") || "not used"}`;
}

function state({ state: at, names }: Explanation): string[] {
	if (at === undefined) return [];
	const { file, slide, because } = names;
	const named =
		slide === undefined
			? `addresses have no names: ${because}`
			: `names from ${file}, ${slide === "0x0" ? "not moved" : `moved by ${slide}`}: ${because}`;
	const vcpus = at.vcpus.map(({ vcpu, rip, mp, interruptsEnabled, pending }, i) => {
		const symbol = at.symbols[i] === rip ? "" : ` ${at.symbols[i]}`;
		const waiting = pending.length === 0 ? "" : `, pending vectors ${pending.join(", ")}`;
		return `vCPU ${vcpu} ${mp} at ${rip}${symbol}, interrupts ${interruptsEnabled ? "on" : "off"}${waiting}`;
	});
	const pins = at.pins.filter(({ pending, remoteIrr }) => pending || remoteIrr);
	const queues = at.devices.flatMap(({ device: name, queues: all }) =>
		all
			.filter(({ pending, inFlight }) => pending > 0 || inFlight > 0)
			.map(
				({ queue, pending, inFlight }) =>
					`${name} queue ${queue}: ${pending} chains not taken, ${inFlight} not given back`,
			),
	);
	return [
		...vcpus,
		named,
		...pins.map(
			({ gsi, vector, masked }) => `I/O APIC pin ${gsi} (vector ${vector})${masked ? " masked" : ""} is pending`,
		),
		...queues,
	];
}

function seconds(nanoseconds: number): string {
	return `${(nanoseconds / 1e9).toFixed(3)} s`;
}

function micros(nanoseconds: number): string {
	return `${(nanoseconds / 1000).toFixed(0)} us`;
}

/** Some guests print for ever and end no line. */
function shortened(line: string): string {
	return line.length > LINE_CHARACTERS ? `${line.slice(0, LINE_CHARACTERS)}...` : line;
}

/*
 * `--fault` and `--fault-seed`: what the user wrote, as rules (base/faults.ts).
 */
import { randomBytes } from "node:crypto";
import { type Command, Option } from "commander";
import { UsageError } from "../base/errors.ts";
import { FAULT_EFFECTS, type FaultRule, Faults } from "../base/faults.ts";

const HINT = "Write DEVICE:EVENT:EFFECT[:TIME][:PERCENT], as in blk0:read:io-error:1% or net0:rx:delay:20ms";

/** "blk0:read:io-error:1%", "blk0:flush:delay:20ms", "*:interrupt:lost:0.1%". @throws UsageError ERR_OPTION_FAULT */
export function parseFault(text: string): FaultRule {
	const refuse = (what: string, hint = HINT) =>
		new UsageError("ERR_OPTION_FAULT", `Cannot read fault "${text}": ${what}`, { hint });
	const [device, event, word, ...rest] = text.split(":");
	if (!device || !event || !word) throw refuse("a device, an event and an effect are wanted");
	const effect = FAULT_EFFECTS.find((known) => known === word);
	if (effect === undefined) throw refuse(`"${word}" is no effect`, `Choose from ${FAULT_EFFECTS.join(", ")}`);
	const delayMs = effect === "delay" ? parseTime(rest.shift()) : undefined;
	if (effect === "delay" && delayMs === undefined) throw refuse("a delay has a time, as in delay:20ms or delay:2s");
	const percent = rest.shift();
	const probability = percent === undefined ? 1 : parsePercent(percent);
	if (probability === undefined) throw refuse(`"${percent}" is no percentage, as in 1% or 0.1%`);
	if (rest.length > 0) throw refuse(`"${rest.join(":")}" is too much`);
	return { device, event, effect, delayMs, probability };
}

/** "42". @throws UsageError ERR_OPTION_FAULT */
export function parseFaultSeed(text: string): number {
	if (/^\d{1,10}$/.test(text)) return Number(text);
	throw new UsageError("ERR_OPTION_FAULT", `Cannot read fault seed "${text}": a whole number is wanted`);
}

/** The flags about faults. */
export interface FaultFlags {
	fault: FaultRule[];
	faultSeed?: number;
}

export function addFaultFlags(command: Command): Command {
	return command
		.addOption(
			new Option("--fault <device:event:effect[:time][:percent]>", "let things go wrong; may be repeated")
				.argParser((text: string, before: FaultRule[]) => [...before, parseFault(text)])
				.default([], "none"),
		)
		.addOption(new Option("--fault-seed <n>", "choose which events --fault hits").argParser(parseFaultSeed));
}

/** The faults that the flags ask for, with a seed of their own unless one is given. */
export function faultsOf({ fault, faultSeed }: FaultFlags): Faults | undefined {
	if (fault.length === 0) return undefined;
	return new Faults(fault, { seed: faultSeed ?? randomBytes(4).readUInt32LE() });
}

function parseTime(text: string | undefined): number | undefined {
	const match = /^(\d+(?:\.\d+)?)(ms|s)$/.exec(text ?? "");
	return match === null ? undefined : Number(match[1]) * (match[2] === "s" ? 1000 : 1);
}

function parsePercent(text: string): number | undefined {
	const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
	return match === null ? undefined : Number(match[1]) / 100;
}

/*
 * Faults on purpose: which events of a machine's devices go wrong, and how. A rule names a device, an event, an effect and
 * a probability. Whether event number n of a device is hit depends on the seed, the rule, the device and n, and on nothing
 * else. So a run with the same events and the same seed has the same faults.
 *
 * Backends with faults (backends/faulty-*.ts) and interrupt lines ask a FaultPoint at each event. A machine without rules
 * has none of them.
 */
import { createHash } from "node:crypto";
import type { Enter } from "./enter.ts";
import { UsageError } from "./errors.ts";

/** What can happen to an event. Which of them an event can meet depends on the device (docs/device-experiments.md). */
export const FAULT_EFFECTS = ["io-error", "corrupt", "lost", "drop", "duplicate", "refuse", "delay"] as const;

/** What happens to an event: see FAULT_EFFECTS. */
export type FaultEffect = (typeof FAULT_EFFECTS)[number];

/** One rule of faults. */
export interface FaultRule {
	/** The device: its id ("disk0"), its short name ("blk0"), or "*" for all that have the event. */
	readonly device: string;
	/** "read", "write", "flush", "discard", "zeroes" of a disk; "rx", "tx" of a network; "connect" of vsock; "interrupt". */
	readonly event: string;
	/** What happens to it. */
	readonly effect: FaultEffect;
	/** For "delay": how long, in milliseconds. */
	readonly delayMs?: number | undefined;
	/** 0 to 1; 1 when missing. */
	readonly probability?: number | undefined;
}

/** For each event of a device the effects that it can meet. */
export type FaultEvents = Readonly<Record<string, readonly FaultEffect[]>>;

/** A device as rules name it. */
export interface FaultTarget {
	/** Its name on the machine. */
	readonly id: string;
	/** A second name, such as "blk0". */
	readonly alias?: string | undefined;
	/** What can go wrong. */
	readonly events: FaultEvents;
}

/** How a rule has done so far. */
export interface FaultCount {
	/** The rule. */
	readonly rule: FaultRule;
	/** Events that it looked at. */
	readonly events: number;
	/** Events that it has hit. */
	readonly hits: number;
}

/** A fault that has just happened. */
export interface InjectedFault {
	/** The device's id. */
	readonly device: string;
	/** The rule that hit. */
	readonly rule: FaultRule;
	/** The number of the event among those of this rule and device, from 1. */
	readonly number: number;
}

/** Options of Faults. */
export interface FaultOptions {
	/** 0 to 2^32 - 1. */
	readonly seed: number;
	/** Called at each fault. */
	readonly onFault?: ((fault: InjectedFault) => void) | undefined;
}

/** What an event meets: at most one effect besides a delay. */
export interface Hit {
	readonly effect: Exclude<FaultEffect, "delay"> | undefined;
	readonly delayMs: number;
	/** 32 random bits, the same in each run. */
	readonly random: number;
}

/** The events of every device. */
export const INTERRUPT_EVENTS: FaultEvents = { interrupt: ["lost", "delay"] };
/** Longest delay, in milliseconds. */
const MAX_DELAY_MS = 60_000;
/** What a hash of 6 bytes stays below. */
const HASH_END = 2 ** 48;

/**
 * The rules of one machine, with their seed and their counts: `Machine.create({ kernel, disks, faults })`.
 *
 * @example
 * const rules = [{ device: "blk0", event: "read", effect: "io-error", probability: 0.01 }] as const;
 * const faults = new Faults(rules, { seed: 7 });
 */
export class Faults {
	/** With the same seed the same events go wrong. */
	readonly seed: number;
	readonly #rules: readonly { readonly rule: FaultRule; events: number; hits: number }[];
	readonly #onFault: FaultOptions["onFault"];
	/** Second names of the machine's devices, by id. */
	readonly #aliases = new Map<string, string | undefined>();
	/** Events so far, by rule and device. */
	readonly #numbers = new Map<string, number>();

	/** @throws UsageError ERR_FAULT for a probability, a delay or a seed that is out of range */
	constructor(rules: readonly FaultRule[], { seed, onFault }: FaultOptions) {
		if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
			throw new UsageError("ERR_FAULT", `Cannot use fault seed ${seed}: 0 to ${2 ** 32 - 1} are possible`);
		}
		for (const rule of rules) checkRule(rule);
		this.seed = seed;
		this.#rules = rules.map((rule) => ({ rule: { ...rule }, events: 0, hits: 0 }));
		this.#onFault = onFault;
	}

	/** For each rule what it did so far. */
	get counts(): FaultCount[] {
		return this.#rules.map((entry) => ({ ...entry }));
	}

	/**
	 * Takes the devices of the machine, and checks that each rule names one and an event that it has.
	 *
	 * @throws UsageError ERR_FAULT, which lists what is known
	 * @internal
	 */
	check(targets: readonly FaultTarget[]): void {
		for (const { rule } of this.#rules) checkTarget(rule, targets);
		for (const target of targets) this.#aliases.set(target.id, target.alias);
	}

	/**
	 * How `events` of device `id` go wrong, or undefined when none does. The caller closes it.
	 *
	 * @internal
	 */
	of(id: string, events: FaultEvents, enter: Enter): DeviceFaults | undefined {
		const target = { id, alias: this.#aliases.get(id), events };
		const mine = this.#rules.filter(({ rule }) => names(rule, target) && rule.event in events);
		return mine.length === 0 ? undefined : new DeviceFaults(this, target, enter);
	}

	/**
	 * Event `event` of a device happens: what does it meet? Undefined: nothing.
	 *
	 * @internal
	 */
	meet(event: string, target: FaultTarget): Hit | undefined {
		let hit: Hit | undefined;
		for (const [index, entry] of this.#rules.entries()) {
			const { rule } = entry;
			if (rule.event !== event || !names(rule, target)) continue;
			if (!target.events[event]!.includes(rule.effect)) continue;
			const key = `${index} ${target.id}`;
			const number = (this.#numbers.get(key) ?? 0) + 1;
			this.#numbers.set(key, number);
			entry.events++;
			const hash = createHash("sha256").update(`${this.seed} ${key} ${number}`).digest();
			if (hash.readUIntBE(0, 6) >= (rule.probability ?? 1) * HASH_END) continue;
			entry.hits++;
			this.#onFault?.({ device: target.id, rule, number });
			hit = combine(hit, rule, hash.readUInt32BE(6));
		}
		return hit;
	}
}

/** The faults of one device or of its backend. */
export class DeviceFaults {
	readonly #faults: Faults;
	readonly #target: FaultTarget;
	readonly #enter: Enter;
	readonly #timers = new Set<NodeJS.Timeout>();

	/** Made by Faults. */
	constructor(faults: Faults, target: FaultTarget, enter: Enter) {
		this.#faults = faults;
		this.#target = target;
		this.#enter = enter;
	}

	/** Event `event` happens: what does it meet? Undefined: nothing. */
	meet(event: string): Hit | undefined {
		return this.#faults.meet(event, this.#target);
	}

	/** Runs `run` for an event that can only be lost or late: now, later, or not at all. */
	pass(event: string, run: () => void): void {
		const hit = this.meet(event);
		if (hit === undefined) run();
		else if (hit.effect === undefined) this.after(hit.delayMs, run);
	}

	/** Runs `run` in the machine after a while, unless it is closed before. */
	after(ms: number, run: () => void): void {
		const timer = setTimeout(() => {
			this.#timers.delete(timer);
			this.#enter(this.#target.id, run);
		}, ms);
		this.#timers.add(timer);
	}

	/** Drops what waits. */
	close(): void {
		for (const timer of this.#timers) clearTimeout(timer);
		this.#timers.clear();
	}
}

/** "blk0:flush:delay:20ms:5%": a rule as the command line has it. */
export function faultText({ device, event, effect, delayMs, probability = 1 }: FaultRule): string {
	const delay = effect === "delay" ? [`${delayMs ?? 0}ms`] : [];
	return [device, event, effect, ...delay, ...(probability < 1 ? [`${probability * 100}%`] : [])].join(":");
}

/** What the rules did, one line each. */
export function describeFaults(faults: Faults): string[] {
	const lines = faults.counts.map(({ rule, events, hits }) => `fault ${faultText(rule)} hit ${hits} of ${events}`);
	return [...lines, `fault seed ${faults.seed}: --fault-seed ${faults.seed} gives the same faults again`];
}

function names({ device }: FaultRule, { id, alias }: FaultTarget): boolean {
	return device === "*" || device === id || device === alias;
}

function combine(
	before: Hit | undefined = { effect: undefined, delayMs: 0, random: 0 },
	{ effect, delayMs = 0 }: FaultRule,
	random: number,
): Hit {
	if (effect === "delay") return { ...before, delayMs: before.delayMs + delayMs };
	return before.effect === undefined ? { ...before, effect, random } : before;
}

function checkRule(rule: FaultRule): void {
	const { effect, delayMs = 0, probability = 1 } = rule;
	const refuse = (what: string) => new UsageError("ERR_FAULT", `Cannot inject "${faultText(rule)}": ${what}`);
	if (!(probability >= 0 && probability <= 1)) throw refuse("a probability is from 0 to 100%");
	if (effect === "delay" && !(delayMs > 0 && delayMs <= MAX_DELAY_MS)) {
		throw refuse(`a delay is more than 0 and at most ${MAX_DELAY_MS / 1000} s`);
	}
}

function checkTarget(rule: FaultRule, targets: readonly FaultTarget[]): void {
	const refuse = (what: string, hint: string) =>
		new UsageError("ERR_FAULT", `Cannot inject "${faultText(rule)}": ${what}`, { hint });
	const mine = targets.filter((target) => names(rule, target));
	if (mine.length === 0) {
		const known = targets.map(({ id, alias }) => (alias === undefined || alias === id ? id : `${id} (${alias})`));
		const what = rule.device === "*" ? "the machine has no virtio device" : `there is no device "${rule.device}"`;
		throw refuse(what, known.length === 0 ? "Give the machine a device" : `Choose from ${known.join(", ")} or *`);
	}
	const able = mine.filter(({ events }) => rule.event in events);
	if (able.length === 0) {
		const events = [...new Set(mine.flatMap((target) => Object.keys(target.events)))];
		throw refuse(`${rule.device} has no event "${rule.event}"`, `Choose from ${events.join(", ")}`);
	}
	const effects = [...new Set(able.flatMap(({ events }) => events[rule.event]!))];
	if (effects.includes(rule.effect)) return;
	throw refuse(`"${rule.event}" cannot meet "${rule.effect}"`, `Choose from ${effects.join(", ")}`);
}

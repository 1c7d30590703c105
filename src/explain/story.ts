/*
 * What a machine has done, gathered from its events as they come: a few numbers and the beginnings and ends of things.
 * It is small however long the trace is, so a machine that runs for days can be explained, too.
 */
import type { StoppedState } from "../base/stopped-state.ts";
import type { MachineEvent, TraceEvent } from "../trace/event.ts";
import { DeviceStory } from "./device-story.ts";

/** Console lines that are kept. */
const MAX_LINES = 400;
const MAX_LINE = 500;
const MAX_PHASES = 200;
/** Registers and addresses that are counted apart. */
const MAX_PLACES = 1000;

/** How often something was, and how long it took in all. */
export interface Tally {
	count: number;
	/** Nanoseconds. */
	took: number;
}

/** A phase of the boot. */
export interface Phase {
	readonly phase: string;
	readonly t: number;
	readonly detail: string | undefined;
	readonly kernelSeconds: number | undefined;
}

/** Accesses to one register, or to an address where no device is. */
export interface PlaceTally {
	readonly bus: "pio" | "mmio";
	readonly device: string;
	readonly register: string | undefined;
	readonly address: number;
	reads: number;
	writes: number;
	/** The value that was read or written last. */
	last: number;
	lastT: number;
}

/** How a machine that lives was looked at. There is no trace from its start. */
export interface Look {
	/** How long. */
	readonly seconds: number;
	/** "running", "paused". */
	readonly state: string;
}

export class Story {
	/** Undefined for the story of a trace. */
	readonly look: Look | undefined;
	created: Extract<MachineEvent, { state: "created" }> | undefined;
	startedAt: string | undefined;
	ended: Extract<MachineEvent, { state: "ended" }> | undefined;
	/** The time of the last event. */
	lastT = 0;
	/** Of the last event that the guest caused. */
	lastGuestT = 0;
	events = 0;
	lost = 0;
	readonly phases: Phase[] = [];
	readonly exits = new Map<string, Tally>();
	readonly devices = new Map<string, DeviceStory>();
	readonly places = new Map<string, PlaceTally>();
	readonly lines: string[] = [];
	consoleBytes = 0;
	/** When the console had its first and its last output. */
	firstOutputT: number | undefined;
	lastOutputT: number | undefined;
	readonly agentFrames = new Map<string, number>();
	state: StoppedState | undefined;
	#line = "";

	constructor(look?: Look) {
		this.look = look;
	}

	add(event: TraceEvent): void {
		this.events++;
		this.lastT = Math.max(this.lastT, event.t);
		if (event.kind === "machine") this.#machine(event);
		else if (event.kind === "state") this.#stands(event);
		else if (event.kind === "lost") this.lost += event.events;
		else this.#guest(event);
	}

	/** The lines of the console, the last one also when it has no end. */
	get output(): readonly string[] {
		return this.#line === "" ? this.lines : [...this.lines, this.#line];
	}

	/** The first line of the console that matches. */
	line(pattern: RegExp): RegExpExecArray | undefined {
		for (const line of this.output) {
			const found = pattern.exec(line);
			if (found !== null) return found;
		}
		return undefined;
	}

	/** Exits in all. */
	get exitCount(): number {
		return [...this.exits.values()].reduce((sum, { count }) => sum + count, 0);
	}

	#stands(state: Extract<TraceEvent, { kind: "state" }>): void {
		this.state = state;
		for (const { device, status } of state.devices) this.#device(device).stands(status);
	}

	#machine(event: MachineEvent): void {
		if (event.state === "created") {
			this.created = event;
			for (const { name, id, deviceId, gsi } of event.devices) this.#device(name).described = { id, deviceId, gsi };
		} else if (event.state === "started") {
			this.startedAt = event.time;
		} else if (event.state === "ended") {
			this.ended = event;
		}
	}

	#guest(event: Exclude<TraceEvent, { kind: "machine" | "state" | "lost" }>): void {
		if (event.kind !== "interrupt" && event.kind !== "complete") this.lastGuestT = event.t;
		switch (event.kind) {
			case "exit":
				tallyIn(this.exits, event.reason).count++;
				return;
			case "resume":
				tallyIn(this.exits, event.reason).took += event.took;
				return;
			case "boot":
				if (this.phases.length < MAX_PHASES) {
					const { phase, t, detail, kernelSeconds } = event;
					this.phases.push({ phase, t, detail, kernelSeconds });
				}
				return;
			case "console":
				this.#console(event.text, event.t);
				return;
			case "agent":
				this.agentFrames.set(event.frame, (this.agentFrames.get(event.frame) ?? 0) + 1);
				return;
			case "access":
				this.#access(event);
				if (event.device !== "nothing") this.#device(event.device).add(event);
				return;
			default:
				this.#device(event.device).add(event);
		}
	}

	#device(name: string): DeviceStory {
		let device = this.devices.get(name);
		if (device === undefined) {
			device = new DeviceStory(name);
			this.devices.set(name, device);
		}
		return device;
	}

	#access(event: Extract<TraceEvent, { kind: "access" }>): void {
		const { bus, device, register, address, write, value, t } = event;
		const key = `${bus} ${address}`;
		let place = this.places.get(key);
		if (place === undefined) {
			if (this.places.size >= MAX_PLACES) return;
			place = { bus, device, register, address, reads: 0, writes: 0, last: 0, lastT: 0 };
			this.places.set(key, place);
		}
		if (write) place.writes++;
		else place.reads++;
		place.last = value;
		place.lastT = t;
	}

	#console(text: string, t: number): void {
		this.firstOutputT ??= t;
		this.lastOutputT = t;
		this.consoleBytes += text.length;
		const parts = text.split("\n");
		for (const [i, part] of parts.entries()) {
			if (this.#line.length < MAX_LINE) this.#line += part.slice(0, MAX_LINE).replace(/\r/g, "");
			if (i === parts.length - 1) break;
			this.lines.push(this.#line);
			this.#line = "";
			/* The first lines stay: they say what kernel it is. */
			if (this.lines.length > MAX_LINES) this.lines.splice(MAX_LINES / 4, 1);
		}
	}
}

function tallyIn(map: Map<string, Tally>, key: string): Tally {
	let tally = map.get(key);
	if (tally === undefined) {
		tally = { count: 0, took: 0 };
		map.set(key, tally);
	}
	return tally;
}

/*
 * Chrome's trace event format, which ui.perfetto.dev opens: a JSON array of events with `ph`, `ts` in microseconds, `pid`
 * and `tid`. The array's end may be missing, so the file of a killed process opens as well.
 *
 *     a track per vCPU     a span "X" per exit, from the exit to the way back into the guest
 *     a track per device   instants "i": accesses, kicks, interrupts, status, violations
 *     below it, by name    a span "b" to "e" per chain, from pop to used; they may overlap
 *     boot, console        the phases as spans, the lines as instants
 */
import type { ChainEvent, TraceEvent, UsedEvent } from "../event.ts";
import { describeEvent, describeRequest } from "./text.ts";
import type { TraceWriter } from "./writer.ts";

const PID = 1;
const BOOT_TRACK = 1;
const CONSOLE_TRACK = 2;
const MACHINE_TRACK = 3;
const VCPU_TRACKS = 10;
const DEVICE_TRACKS = 100;

/** An event of the format. */
interface Row {
	readonly name: string;
	readonly ph: "X" | "i" | "b" | "e" | "M";
	readonly ts: number;
	readonly pid: number;
	readonly tid: number;
	readonly [more: string]: unknown;
}

export class ChromeWriter implements TraceWriter {
	#first = true;
	readonly #tracks = new Map<string, number>();
	/** Spans of chains by device, queue and head. */
	readonly #open = new Map<string, number>();
	#spans = 0;
	readonly #exits = new Map<number, { at: number; reason: string }>();
	#phase: { name: string; at: number } | undefined;
	#last = 0;

	event(event: TraceEvent): string {
		this.#last = event.t;
		return this.#rows(event)
			.map((row) => this.#row(row))
			.join("");
	}

	end(): string {
		const open = [...this.#exits].map(([vcpu, { at, reason }]): Row => {
			return { name: reason, ph: "i", s: "t", ts: at / 1000, ...this.#at(VCPU_TRACKS + vcpu), cat: "exit" };
		});
		const rows = [...open, ...this.#phaseUntil(this.#last)];
		const text = rows.map((row) => this.#row(row)).join("");
		return `${this.#first ? "[" : ""}${text}\n]\n`;
	}

	#row(row: Row): string {
		const begin = this.#first ? "[\n" : ",\n";
		this.#first = false;
		return begin + JSON.stringify(row);
	}

	#rows(event: TraceEvent): Row[] {
		switch (event.kind) {
			case "exit":
				this.#exits.set(event.vcpu, { at: event.t, reason: event.reason });
				return this.#track(VCPU_TRACKS + event.vcpu, `vCPU ${event.vcpu}`);
			case "resume": {
				this.#exits.delete(event.vcpu);
				const span = {
					name: event.reason,
					ph: "X",
					ts: (event.t - event.took) / 1000,
					dur: event.took / 1000,
				} as const;
				return [{ ...span, ...this.#at(VCPU_TRACKS + event.vcpu), cat: "exit" }];
			}
			case "chain":
				return this.#chain(event);
			case "used":
			case "unpop":
				return this.#closed(event.kind === "used" ? event : { ...event, written: 0, kind: "used" });
			case "boot": {
				const rows = [...this.#track(BOOT_TRACK, "boot"), ...this.#phaseUntil(event.t)];
				this.#phase = { name: event.phase, at: event.t };
				return [...rows, this.#instant(event, BOOT_TRACK, event.detail ?? event.phase)];
			}
			case "console":
				return [...this.#track(CONSOLE_TRACK, "console"), this.#instant(event, CONSOLE_TRACK, event.text.trim())];
			case "machine":
			case "lost":
			case "state":
			case "agent":
				return [...this.#track(MACHINE_TRACK, "machine"), this.#instant(event, MACHINE_TRACK, describeEvent(event))];
			default: {
				const [rows, tid] = this.#device(event.device);
				return [...rows, this.#instant(event, tid, describeEvent(event))];
			}
		}
	}

	#chain(event: ChainEvent): Row[] {
		const [rows, tid] = this.#device(event.device);
		const { device, queue, name = `queue ${queue}`, head, request, t } = event;
		const id = ++this.#spans;
		this.#open.set(`${device} ${queue} ${head}`, id);
		const span = { name: `${device} ${name}`, ph: "b", cat: "chain", id, ts: t / 1000, ...this.#at(tid) } as const;
		return [...rows, { ...span, args: { head, request: request === undefined ? "" : describeRequest(request) } }];
	}

	#closed({ device, queue, name = `queue ${queue}`, head, written, answer, t }: UsedEvent): Row[] {
		const key = `${device} ${queue} ${head}`;
		const id = this.#open.get(key);
		if (id === undefined) return [];
		this.#open.delete(key);
		const [rows, tid] = this.#device(device);
		const span = { name: `${device} ${name}`, ph: "e", cat: "chain", id, ts: t / 1000, ...this.#at(tid) } as const;
		return [...rows, { ...span, args: { written, answer: answer === undefined ? "" : describeRequest(answer) } }];
	}

	/** The phase that ends now. */
	#phaseUntil(t: number): Row[] {
		if (this.#phase === undefined) return [];
		const { name, at } = this.#phase;
		return [{ name, ph: "X", ts: at / 1000, dur: (t - at) / 1000, ...this.#at(BOOT_TRACK), cat: "boot" }];
	}

	#instant({ t, kind, ...rest }: TraceEvent, tid: number, name: string): Row {
		return { name, ph: "i", s: "t", ts: t / 1000, ...this.#at(tid), cat: kind, args: rest };
	}

	#at(tid: number): { pid: number; tid: number } {
		return { pid: PID, tid };
	}

	#device(device: string): [rows: Row[], tid: number] {
		const tid = this.#tracks.get(device) ?? DEVICE_TRACKS + this.#tracks.size;
		return [this.#track(tid, device), tid];
	}

	/** Names a track when it comes up for the first time. */
	#track(tid: number, name: string): Row[] {
		if (this.#tracks.has(name)) return [];
		const rows: Row[] = [];
		const meta = { ph: "M", ts: 0 } as const;
		if (this.#tracks.size === 0) {
			rows.push({ name: "process_name", ...meta, ...this.#at(0), args: { name: "tsvmm machine" } });
		}
		this.#tracks.set(name, tid);
		rows.push({ name: "thread_name", ...meta, ...this.#at(tid), args: { name } });
		rows.push({ name: "thread_sort_index", ...meta, ...this.#at(tid), args: { sort_index: tid } });
		return rows;
	}
}

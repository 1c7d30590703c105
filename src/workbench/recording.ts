/*
 * A recording of what a guest did with its virtio devices, one JSON object a line: the accesses to their registers, the
 * kicks, the chains with the bytes that the device read and wrote, and the interrupts. replay.ts plays it against a device
 * without a guest. A trace (src/trace) has no bytes of the guest's; a recording has, so keep it as you keep the disk.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { explain, HostError, UsageError } from "../base/errors.ts";
import type { ObservedChain, ObservedDevice, Observer } from "../base/observer.ts";
import type { Segments } from "../base/segments.ts";

/** The first line. */
export interface RecordingHeader {
	readonly format: "tsvmm-recording";
	readonly version: 1;
	readonly devices: readonly ObservedDevice[];
}

/** A chain's bytes are in base64. `device` is the name of the device. */
export type RecordedEvent = { readonly device: string } & (
	| { readonly kind: "read" | "write"; readonly offset: number; readonly size: number; readonly value: number }
	| { readonly kind: "kick"; readonly queue: number }
	| {
			readonly kind: "pop";
			readonly queue: number;
			readonly head: number;
			readonly readable: string[];
			readonly writable: number[];
	  }
	| { readonly kind: "unpop"; readonly queue: number; readonly head: number }
	| {
			readonly kind: "push";
			readonly queue: number;
			readonly head: number;
			readonly written: number;
			readonly data: string;
	  }
	| { readonly kind: "interrupt"; readonly cause: number }
);

/** A recording that was read. */
export interface Recording {
	readonly devices: readonly ObservedDevice[];
	/** Their numbers are their lines in the file, so the first is 2. */
	readonly events: readonly { readonly number: number; readonly event: RecordedEvent }[];
}

/** Buffered lines are written when they are this long. */
const CHUNK_CHARACTERS = 1 << 16;

/** Writes a recording. Its observer belongs into a machine's configuration, so that it sees every access. */
export class Recorder {
	readonly observer: Observer;
	readonly #path: string;
	readonly #fd: number;
	#lines = "";
	#devices: readonly ObservedDevice[] = [];
	/** By device and queue, then by head. */
	readonly #chains = new Map<string, ObservedChain>();

	/** @throws HostError ERR_RECORDING when the file cannot be written */
	constructor(path: string) {
		this.#path = path;
		this.#fd = this.#or(() => openSync(path, "w", 0o600));
		this.observer = {
			machine: (life) => {
				if (life.state !== "created") return;
				this.#devices = life.devices;
				this.#line({ format: "tsvmm-recording", version: 1, devices: life.devices } satisfies RecordingHeader);
			},
			access: (...[bus, device, write, address, size, value]) => {
				const base = bus === "mmio" ? this.#devices.find(({ name }) => name === device)?.address : undefined;
				if (base === undefined) return;
				this.#event({ device, kind: write ? "write" : "read", offset: address - base, size, value });
			},
			kick: (device, queue) => this.#event({ device, kind: "kick", queue }),
			pop: (device, queue, chain) => {
				this.#chains.set(`${device} ${queue} ${chain.head}`, chain);
				const readable = piecesOf(chain.readable).map((bytes) => Buffer.from(bytes).toString("base64"));
				const writable = piecesOf(chain.writable).map(({ length }) => length);
				this.#event({ device, kind: "pop", queue, head: chain.head, readable, writable });
			},
			unpop: (device, queue, head) => this.#event({ device, kind: "unpop", queue, head }),
			push: (device, queue, head, written) => {
				const { writable } = this.#chains.get(`${device} ${queue} ${head}`) ?? {};
				const data = Buffer.alloc(Math.min(written, writable?.totalBytes ?? 0));
				writable?.copyTo(data);
				this.#event({ device, kind: "push", queue, head, written, data: data.toString("base64") });
			},
			interrupt: (device, cause) => {
				if (cause !== undefined) this.#event({ device, kind: "interrupt", cause });
			},
		};
	}

	/** Writes what is left. @throws HostError ERR_RECORDING */
	close(): void {
		try {
			this.#write();
		} finally {
			closeSync(this.#fd);
		}
	}

	#event(event: RecordedEvent): void {
		this.#line(event);
	}

	#line(value: object): void {
		this.#lines += `${JSON.stringify(value)}\n`;
		if (this.#lines.length >= CHUNK_CHARACTERS) this.#write();
	}

	#write(): void {
		const lines = Buffer.from(this.#lines);
		this.#lines = "";
		for (let at = 0; at < lines.length; ) at += this.#or(() => writeSync(this.#fd, lines, at));
	}

	#or<T>(run: () => T): T {
		try {
			return run();
		} catch (cause) {
			throw new HostError("ERR_RECORDING", `Cannot write recording ${this.#path}: ${explain(cause)}`, { cause });
		}
	}
}

/** Reads a recording. @throws UsageError ERR_RECORDING for what is none */
export function readRecording(path: string): Recording {
	const refuse = (what: string, cause?: unknown) =>
		new UsageError("ERR_RECORDING", `Cannot read recording ${path}: ${what}`, { cause });
	let lines: string[];
	try {
		lines = readFileSync(path, "utf8").split("\n");
	} catch (cause) {
		throw refuse(explain(cause), cause);
	}
	const parse = (line: string, number: number): unknown => {
		try {
			return JSON.parse(line);
		} catch (cause) {
			throw refuse(`line ${number} is no JSON`, cause);
		}
	};
	const header = parse(lines[0] ?? "", 1) as Partial<RecordingHeader> | null;
	if (header?.format !== "tsvmm-recording" || !Array.isArray(header.devices)) throw refuse("it does not begin as one");
	if (header.version !== 1) throw refuse(`its version is ${header.version}, and this tsvmm reads version 1`);
	const events = lines.slice(1).flatMap((line, i) => {
		if (line === "") return [];
		const event = parse(line, i + 2) as RecordedEvent;
		const isComplete = typeof event?.device === "string" && FIELDS[event.kind]?.every((field) => field in event);
		if (!isComplete) throw refuse(`line ${i + 2} is no event`);
		return [{ number: i + 2, event }];
	});
	return { devices: header.devices, events };
}

const FIELDS: Readonly<Record<RecordedEvent["kind"], readonly string[]>> = {
	read: ["offset", "size", "value"],
	write: ["offset", "size", "value"],
	kick: ["queue"],
	pop: ["queue", "head", "readable", "writable"],
	unpop: ["queue", "head"],
	push: ["queue", "head", "written", "data"],
	interrupt: ["cause"],
};

function piecesOf(segments: Segments): Uint8Array[] {
	return Array.from({ length: segments.count }, (_, i) => segments.bytes(i));
}

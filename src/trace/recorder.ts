/*
 * Makes events (event.ts) of what an Observer is told: time stamps, names of registers and bits, decoded headers, the
 * time from pop to used, phases of the boot, frames of the agent.
 *
 *     Machine -- Observer --> Recorder -- filter --> TraceSink: a file's writer, the terminal, an inspector
 *
 * The Observer has only the methods that the filter needs, so what is filtered out costs little. What the guest wrote is
 * copied and checked by the decoders. What a recorder remembers is bounded by the sizes of the queues.
 */
import type { MachineLife, ObservedChain, Observer } from "../base/observer.ts";
import type { Segments } from "../base/segments.ts";
import * as kvm from "../kvm/constants.ts";
import { ACKNOWLEDGE, DRIVER_OK } from "../virtio/spec.ts";
import { AgentWatch } from "./agent-watch.ts";
import { BootWatch } from "./boot-watch.ts";
import { namesOf } from "./decode/decoder.ts";
import { decoderOf } from "./decode/table.ts";
import { type DeviceType, typeOfId, typeOfName } from "./device-types.ts";
import type { TraceEvent, TracePacket, TracePiece, TraceSink } from "./event.ts";
import { featureNames } from "./features.ts";
import { TraceFilter } from "./filter.ts";
import { Packets } from "./packets.ts";
import { bitsOf, registerAt, statusBits } from "./registers.ts";

/* KVM_EXIT_IO_IN and KVM_EXIT_IO_OUT are no reasons. */
const { KVM_EXIT_IO_IN: _in, KVM_EXIT_IO_OUT: _out, ...EXIT_CONSTANTS } = kvm;
const EXITS = namesOf(EXIT_CONSTANTS, "KVM_EXIT_");
const CAUSES = new Map([
	[1, "used buffer"],
	[2, "config change"],
]);
/** Buffers of a chain that an event lists. */
const MAX_PIECES = 64;

/** An event without its stamp. */
type Unstamped<E = TraceEvent> = E extends TraceEvent ? Omit<E, "t"> : never;

/** A chain that a device has. */
interface Flight {
	readonly since: number;
	readonly chain: ObservedChain;
}

/** What the recorder knows of a device. */
interface Known {
	readonly type: DeviceType | undefined;
	readonly queues: number;
	readonly flights: Map<number, Flight>[];
	/** When it has raised an interrupt that is not acknowledged. */
	raised: number | undefined;
}

/**
 * An observer that gives events to `sink`. Give it to a machine by its configuration (`observer`), or by
 * `machine.observe`, where it does not see accesses that native code answers.
 *
 * @param events which ones: kinds such as "exits", devices such as "blk0", or "all"; all when missing
 * @throws UsageError ERR_OPTION_TRACE for a word that names nothing
 * @example
 * const seen = new Map<string, number>();
 * const event = ({ kind }: TraceEvent) => void seen.set(kind, (seen.get(kind) ?? 0) + 1);
 * await using machine = await Machine.create({ kernel: "vmlinux", observer: eventObserver({ event }, ["exits", "blk"]) });
 */
export function eventObserver(sink: TraceSink, events: readonly string[] = []): Observer {
	return new Recorder(sink, new TraceFilter(events)).observer();
}

class Recorder {
	readonly #sink: TraceSink;
	readonly #filter: TraceFilter;
	readonly #devices = new Map<string, Known>();
	readonly #exits: { reason: string; at: number }[] = [];
	readonly #boot = new BootWatch((phase) => this.#emit({ kind: "boot", ...phase }));
	readonly #agent = new AgentWatch((frame) => this.#emit({ kind: "agent", ...frame }));
	readonly #packets: Packets | undefined;
	/** Of a console's text, which may be cut within a character. */
	readonly #decoders = new Map<string, InstanceType<typeof TextDecoder>>();
	#zeroMs = performance.now();
	/** The machine is made, and not started. */
	#waiting = false;
	#entered = false;

	constructor(sink: TraceSink, filter: TraceFilter) {
		this.#sink = sink;
		this.#filter = filter;
		this.#packets = sink.packet === undefined ? undefined : new Packets((packet) => this.#packet(packet));
	}

	observer(): Observer {
		const wanted = this.#sink.event !== undefined;
		const may = (...kinds: TraceEvent["kind"][]) => wanted && kinds.some((kind) => this.#filter.mayPass(kind));
		const observer: Observer = { machine: (life) => this.#life(life) };
		if (may("violation")) {
			observer.violation = (device, what, needsReset) => this.#emit({ kind: "violation", device, what, needsReset });
		}
		if (may("state")) observer.stopped = (state) => this.#emit({ kind: "state", ...state });
		if (may("exit", "resume", "boot")) {
			observer.exit = (vcpu, reason) => this.#exit(vcpu, reason);
			observer.resume = (vcpu) => this.#resume(vcpu);
		}
		if (may("access", "acknowledge")) {
			observer.access = (bus, device, write, address, size, value) => {
				const register = registerAt(device, address, write);
				const named = register === undefined ? {} : { register };
				if (write && register === "InterruptACK") this.#acknowledged(device, value);
				this.#emit({ kind: "access", bus, device, ...named, write, address, size, value });
			};
		}
		if (may("status", "boot") || this.#packets !== undefined) observer.status = (...status) => this.#status(...status);
		if (may("kick")) {
			observer.kick = (device, queue) => this.#emit({ kind: "kick", device, queue, ...this.#name(device, queue) });
		}
		if (may("chain", "used", "agent") || this.#packets !== undefined) {
			observer.pop = (device, queue, chain) => this.#pop(device, queue, chain);
			observer.push = (...used) => this.#push(...used);
			observer.unpop = (device, queue, head) => {
				this.#flights(device, queue).delete(head);
				this.#emit({ kind: "unpop", device, queue, ...this.#name(device, queue), head });
			};
		}
		if (may("interrupt")) observer.interrupt = (device, cause) => this.#interrupt(device, cause);
		if (may("complete")) {
			observer.complete = (device, token, result) => this.#emit({ kind: "complete", device, token, result });
		}
		if (may("console", "boot")) observer.console = (device, bytes) => this.#console(device, bytes);
		return observer;
	}

	#now(): number {
		if (this.#waiting) return 0;
		return Math.max(0, Math.round((performance.now() - this.#zeroMs) * 1e6));
	}

	#emit(event: Unstamped, t = this.#now()): void {
		const stamped = { t, ...event } as TraceEvent;
		if (this.#filter.passes(stamped)) this.#sink.event?.(stamped);
	}

	#packet(packet: Omit<TracePacket, "zeroUnixMs">): void {
		if (!this.#filter.passesPacket(packet.device)) return;
		this.#sink.packet?.({ ...packet, zeroUnixMs: performance.timeOrigin + this.#zeroMs });
	}

	#life(life: MachineLife): void {
		if (life.state === "created") {
			for (const { name, deviceId, queues } of life.devices) this.#know(name, typeOfId(deviceId), queues.length);
			this.#waiting = true;
			this.#emit({ kind: "machine", format: 1, ...life });
			return;
		}
		if (life.state === "started") {
			this.#waiting = false;
			this.#zeroMs = performance.now();
			this.#emit({ kind: "machine", ...life, time: new Date().toISOString() }, 0);
			return;
		}
		this.#emit({ kind: "machine", ...life });
	}

	#exit(vcpu: number, reasonNumber: number): void {
		const reason = EXITS.get(reasonNumber) ?? `KVM_EXIT_${reasonNumber}`;
		const at = this.#now();
		if (!this.#entered) this.#emit({ kind: "boot", phase: "entry", detail: `first exit: ${reason}` }, at);
		this.#entered = true;
		this.#exits[vcpu] = { reason, at };
		this.#emit({ kind: "exit", vcpu, reason }, at);
	}

	#resume(vcpu: number): void {
		const exit = this.#exits[vcpu];
		if (exit === undefined) return;
		const now = this.#now();
		this.#emit({ kind: "resume", vcpu, took: now - exit.at, reason: exit.reason }, now);
	}

	#status(device: string, status: number, driverFeatures: bigint): void {
		const { type, flights } = this.#of(device);
		const bits = statusBits(status);
		const features = `0x${driverFeatures.toString(16)}`;
		const names = { features, featureNames: featureNames(type, driverFeatures) };
		this.#emit({ kind: "status", device, status, bits, ...names });
		if (bits.at(-1) === "FAILED") this.#emit({ kind: "boot", phase: "driver failed", detail: device });
		else if (status === ACKNOWLEDGE) this.#emit({ kind: "boot", phase: "device found", detail: device });
		else if ((status & DRIVER_OK) !== 0) this.#emit({ kind: "boot", phase: "driver ready", detail: device });
		if (status !== 0) return;
		for (const queue of flights) queue?.clear();
		this.#packets?.reset(device);
	}

	#pop(device: string, queue: number, chain: ObservedChain): void {
		const known = this.#of(device);
		const { readable, writable, head } = chain;
		const t = this.#now();
		this.#flights(device, queue).set(head, { since: t, chain });
		const request = decoderOf(known.type)?.request?.({ queue, chain, written: 0 });
		if (request?.protocol === "vsock") this.#agent.packet(request, readable);
		this.#packets?.chain(known.type, { t, device, queue, bytes: readable, length: readable.totalBytes, used: false });
		if (!this.#filter.mayPass("chain")) return;
		const buffers = { readable: piecesOf(readable), writable: piecesOf(writable) };
		const sums = { readableBytes: readable.totalBytes, writableBytes: writable.totalBytes };
		const decoded = request === undefined ? {} : { request };
		this.#emit(
			{ kind: "chain", device, queue, ...this.#name(device, queue), head, ...buffers, ...sums, ...decoded },
			t,
		);
	}

	#push(device: string, queue: number, head: number, written: number): void {
		const { type } = this.#of(device);
		const flights = this.#flights(device, queue);
		const flight = flights.get(head);
		flights.delete(head);
		const t = this.#now();
		const event = { kind: "used", device, queue, ...this.#name(device, queue), head, written } as const;
		if (flight === undefined) {
			this.#emit(event, t);
			return;
		}
		const { chain, since } = flight;
		const answer = decoderOf(type)?.answer?.({ queue, chain, written });
		const length = Math.min(written, chain.writable.totalBytes);
		if (answer?.protocol === "vsock") this.#agent.packet(answer, chain.writable);
		this.#packets?.chain(type, { t, device, queue, bytes: chain.writable, length, used: true });
		this.#emit({ ...event, took: t - since, ...(answer === undefined ? {} : { answer }) }, t);
	}

	#interrupt(device: string, cause: number | undefined): void {
		const t = this.#now();
		if (cause !== undefined) this.#of(device).raised ??= t;
		this.#emit({ kind: "interrupt", device, ...(cause === undefined ? {} : { cause: bitsOf(cause, CAUSES) }) }, t);
	}

	#acknowledged(device: string, value: number): void {
		const known = this.#of(device);
		const t = this.#now();
		const took = known.raised === undefined ? {} : { took: t - known.raised };
		known.raised = undefined;
		this.#emit({ kind: "acknowledge", device, cause: bitsOf(value, CAUSES), ...took }, t);
	}

	#console(device: string, bytes: Uint8Array): void {
		let decoder = this.#decoders.get(device);
		if (decoder === undefined) {
			decoder = new TextDecoder();
			this.#decoders.set(device, decoder);
		}
		const text = decoder.decode(bytes, { stream: true });
		if (text === "") return;
		this.#emit({ kind: "console", device, text });
		this.#boot.write(text);
	}

	/** The queue's name, for an event. */
	#name(device: string, queue: number): { name?: string } {
		const { type, queues } = this.#of(device);
		const name = decoderOf(type)?.queueName(queue, queues);
		return name === undefined ? {} : { name };
	}

	#flights(device: string, queue: number): Map<number, Flight> {
		const { flights } = this.#of(device);
		flights[queue] ??= new Map();
		return flights[queue];
	}

	#of(device: string): Known {
		return this.#devices.get(device) ?? this.#know(device, typeOfName(device), 0);
	}

	#know(device: string, type: DeviceType | undefined, queues: number): Known {
		const known: Known = { type, queues, flights: [], raised: undefined };
		this.#devices.set(device, known);
		return known;
	}
}

function piecesOf(segments: Segments): TracePiece[] {
	return Array.from({ length: Math.min(segments.count, MAX_PIECES) }, (_, i) => {
		const { source, start } = segments.place(i);
		return { ...(source.gpa === undefined ? {} : { gpa: source.gpa + start }), bytes: segments.lengths[i]! };
	});
}

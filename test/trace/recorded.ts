/* A sink that keeps what it is given, for tests. */
import type { Observers } from "../../src/base/observer.ts";
import type { TraceEvent, TraceEventKind, TracePacket } from "../../src/trace/event.ts";
import { eventObserver } from "../../src/trace/recorder.ts";

export interface Recorded {
	readonly events: TraceEvent[];
	readonly packets: (Omit<TracePacket, "bytes"> & { bytes: Buffer })[];
	/** The events of one kind. */
	of<K extends TraceEventKind>(kind: K): Extract<TraceEvent, { kind: K }>[];
}

/** Records what `observers` hear from now on. */
export function record(observers: Observers, ...words: string[]): Recorded {
	const recorded: Recorded = {
		events: [],
		packets: [],
		of: (kind) => recorded.events.filter((event) => event.kind === kind) as never,
	};
	const sink = {
		event: (event: TraceEvent) => void recorded.events.push(event),
		packet: (packet: TracePacket) => void recorded.packets.push({ ...packet, bytes: Buffer.from(packet.bytes) }),
	};
	observers.attach(eventObserver(sink, words));
	return recorded;
}

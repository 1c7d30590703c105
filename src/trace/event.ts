/*
 * The events of a machine as plain data: what the recorder (recorder.ts) makes of an Observer's calls, and what all
 * writers, `tsvmm explain` and your own programs read. An event is JSON, one line of a .jsonl file. It has `t`, when it
 * happened, and `kind`, which says what else it has. Names are those of the specifications.
 */
import type { MachineLife } from "../base/observer.ts";
import type { StoppedState } from "../base/stopped-state.ts";
import type { TraceRequest } from "./request.ts";

/** What every event has. */
export interface TraceStamp {
	/** Nanoseconds since the machine was started, monotonic; 0 for what was before. */
	readonly t: number;
}

/** A step in the machine's life. `time` of its start is the host's clock, in ISO 8601. */
export type MachineEvent = TraceStamp & { readonly kind: "machine" } & (
		| (Extract<MachineLife, { state: "created" }> & { readonly format: 1 })
		| (Exclude<MachineLife, { state: "created" }> & { readonly time?: string })
	);

/** A vCPU has left the guest. */
export interface ExitEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "exit";
	/** Its number, from 0. */
	readonly vcpu: number;
	/** "KVM_EXIT_IO". */
	readonly reason: string;
}

/** A vCPU goes back into the guest. */
export interface ResumeEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "resume";
	/** Its number, from 0. */
	readonly vcpu: number;
	/** Nanoseconds since its exit. */
	readonly took: number;
	/** The exit's reason. */
	readonly reason: string;
}

/** The guest has read or written a register. */
export interface AccessEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "access";
	/** Of ports, or of addresses. */
	readonly bus: "pio" | "mmio";
	/** "serial", "virtio-blk0", or "nothing". */
	readonly device: string;
	/** As its specification spells it, where it is known: "LSR", "QueueNotify", "Config+8". */
	readonly register?: string;
	/** A write, else a read. */
	readonly write: boolean;
	/** A port or a guest-physical address. */
	readonly address: number;
	/** Bytes. */
	readonly size: number;
	/** Unsigned. */
	readonly value: number;
}

/** A driver has written its device's status. */
export interface StatusEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "status";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** The new value. */
	readonly status: number;
	/** Its bits: "DRIVER_OK". */
	readonly bits: readonly string[];
	/** What the driver has accepted so far, in hexadecimal. */
	readonly features: string;
	/** Names of these features. */
	readonly featureNames: readonly string[];
}

/** What events of a queue have. */
export interface QueueEvent extends TraceStamp {
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** The queue's index in the device. */
	readonly queue: number;
	/** As the specification calls it, where it is known: "receiveq". */
	readonly name?: string;
}

/** The driver has notified a queue. */
export interface KickEvent extends QueueEvent {
	/** Which event it is. */
	readonly kind: "kick";
}

/** A piece of guest memory. */
export interface TracePiece {
	/** Guest-physical address, where it is known. */
	readonly gpa?: number;
	/** Its length. */
	readonly bytes: number;
}

/** The device has taken a chain of descriptors. */
export interface ChainEvent extends QueueEvent {
	/** Which event it is. */
	readonly kind: "chain";
	/** Index of the first descriptor. */
	readonly head: number;
	/** What the device reads, then what it writes: the descriptors' buffers. The first 64 of each. */
	readonly readable: readonly TracePiece[];
	/** The buffers that the device writes, likewise. */
	readonly writable: readonly TracePiece[];
	/** Bytes of all of them. */
	readonly readableBytes: number;
	/** Of the buffers that the device writes. */
	readonly writableBytes: number;
	/** What it asks for, where that is known. */
	readonly request?: TraceRequest;
}

/** The device has given a chain back: it is on the used ring. */
export interface UsedEvent extends QueueEvent {
	/** Which event it is. */
	readonly kind: "used";
	/** The chain's first descriptor. */
	readonly head: number;
	/** Bytes that the device says it has written. */
	readonly written: number;
	/** Nanoseconds since the device took it, where that was seen. */
	readonly took?: number;
	/** What the answer is, where that is known. */
	readonly answer?: TraceRequest;
}

/** The device has put a chain back, as if it had not taken it. */
export interface UnpopEvent extends QueueEvent {
	/** Which event it is. */
	readonly kind: "unpop";
	/** The chain's first descriptor. */
	readonly head: number;
}

/** A device has raised its interrupt. */
export interface InterruptEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "interrupt";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** Why, of a virtio device: "used buffer", "config change". */
	readonly cause?: readonly string[];
}

/** The driver has acknowledged interrupts (InterruptACK). */
export interface AcknowledgeEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "acknowledge";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** As of an interrupt. */
	readonly cause: readonly string[];
	/** Nanoseconds since the interrupt, where that was seen. */
	readonly took?: number;
}

/** A backend has answered a request of a device. */
export interface CompleteEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "complete";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** The device's number for the request. */
	readonly token: number;
	/** "ok", "io-error". */
	readonly result: string;
}

/** A driver has broken a rule. */
export interface ViolationEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "violation";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** In words. */
	readonly what: string;
	/** The device needs a reset; else the driver's access was ignored. */
	readonly needsReset: boolean;
}

/** The guest has written to its console. */
export interface ConsoleEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "console";
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** As UTF-8; what is none has become U+FFFD. */
	readonly text: string;
}

/** The guest's boot has come so far. */
export interface BootEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "boot";
	/** "entry", "kernel", "memory", "acpi", "driver", "init" and others: docs/tracing.md has all. */
	readonly phase: string;
	/** The kernel's line, or what else shows it. */
	readonly detail?: string;
	/** Seconds by the kernel's own clock, where its line has a time stamp. */
	readonly kernelSeconds?: number;
}

/** A frame between the host and the agent in the guest. */
export interface AgentEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "agent";
	/** To the guest, else from it. */
	readonly toGuest: boolean;
	/** "EXEC". */
	readonly frame: string;
	/** Its number. */
	readonly session: number;
	/** Of its payload. */
	readonly bytes: number;
	/** As the protocol has them. */
	readonly flags: number;
}

/** The machine stands still: where each vCPU is, which interrupts wait, what is left in the queues. */
export interface StateEvent extends TraceStamp, StoppedState {
	/** Which event it is. */
	readonly kind: "state";
}

/** Events were not recorded, because they came faster than they could be written. */
export interface LostEvent extends TraceStamp {
	/** Which event it is. */
	readonly kind: "lost";
	/** How many since the last such event. */
	readonly events: number;
}

/** An event of a machine. New kinds and members may come, so have a default case. */
export type TraceEvent =
	| MachineEvent
	| ExitEvent
	| ResumeEvent
	| AccessEvent
	| StatusEvent
	| KickEvent
	| ChainEvent
	| UsedEvent
	| UnpopEvent
	| InterruptEvent
	| AcknowledgeEvent
	| CompleteEvent
	| ViolationEvent
	| ConsoleEvent
	| BootEvent
	| AgentEvent
	| StateEvent
	| LostEvent;

/** The name of a kind of event. */
export type TraceEventKind = TraceEvent["kind"];

/** A packet with its bytes, which are valid during the call only. Events have no bytes of the guest's data. */
export interface TracePacket {
	/** As of an event. */
	readonly t: number;
	/** The device's name: "virtio-blk0". */
	readonly device: string;
	/** To the guest, else from it. */
	readonly toGuest: boolean;
	/** An Ethernet frame, or virtio_vsock_hdr with its payload. */
	readonly link: "ethernet" | "vsock";
	/** The frame or the packet. */
	readonly bytes: Uint8Array;
	/** The host's clock when `t` was 0: milliseconds since 1970. */
	readonly zeroUnixMs: number;
}

/** Takes events in the order in which they happen. It is called in the middle of them, so it must be quick. */
export interface TraceSink {
	/** Without it no event is made. */
	event?(event: TraceEvent): void;
	/** Without it no packet is copied. */
	packet?(packet: TracePacket): void;
}

/*
 * The events of a machine: a typed `on`, `off` and `once`.
 */
import { EventEmitter } from "node:events";
import type { ShutdownReason } from "./shutdown-reason.ts";

/** Events of a machine by name, with what a listener is called with. */
export interface MachineEvents {
	/** `start` was called. */
	started: [];
	/** `pause` has stopped the last vCPU. */
	paused: [];
	/** `resume` lets the vCPUs run on. */
	resumed: [];
	/** The guest's kernel has panicked; `why` is its own line, when its console shows it. The end follows. */
	panic: [why: string | undefined];
	/** Everything is released; just before `ended` resolves. */
	ended: [end: ShutdownReason];
}

/** The name of an event. */
export type MachineEventName = keyof MachineEvents;
/** What is called when event `E` happens, in the turn in which it does. */
export type MachineListener<E extends MachineEventName> = (...args: MachineEvents[E]) => void;

export class MachineEmitter {
	readonly #emitter = new EventEmitter();

	on<E extends MachineEventName>(event: E, listener: MachineListener<E>): void {
		this.#emitter.on(event, listener as (...args: unknown[]) => void);
	}

	once<E extends MachineEventName>(event: E, listener: MachineListener<E>): void {
		this.#emitter.once(event, listener as (...args: unknown[]) => void);
	}

	off<E extends MachineEventName>(event: E, listener: MachineListener<E>): void {
		this.#emitter.off(event, listener as (...args: unknown[]) => void);
	}

	/** Calls each listener by `call`, which handles its errors. */
	emit<E extends MachineEventName>(event: E, call: (run: () => void) => void, ...args: MachineEvents[E]): void {
		for (const listener of this.#emitter.rawListeners(event)) call(() => listener.apply(undefined, args));
	}
}

/*
 * Slots of devices that are added and removed while the machine runs, by an ACPI Generic Event Device (ACPI 6.5
 * §5.6.9). It has two registers of 32 bits with a bit per slot, and raises an edge interrupt at each change. A bit of CHNG
 * that belongs to no slot is for another event.
 * boot/acpi/hot-plug.ts has the AML that reads them:
 *
 *     +0 PRES  there is a device in the slot: what its _STA says                          read
 *     +4 CHNG  the slot has changed since the guest looked: a bus check for its container  read; write 1 to clear
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const PRES = 0;
const CHNG = 4;

/** The registers. */
export class HotPlug implements BusDevice, Stateful {
	readonly name = "hot-plug";
	/** Bytes of port space. */
	static readonly SIZE = 8;
	readonly #raise: () => void;
	/** Element 0 is PRES. A kernel reads it several times per slot at its start, so the run loop may answer it. */
	readonly #present: Int32Array;
	#changed = 0;

	/**
	 * @param raise one edge of the event device's interrupt
	 * @param presentWord where PRES is kept for the native run loop; a new word when missing
	 */
	constructor(raise: () => void, presentWord: Int32Array = new Int32Array(1)) {
		this.#raise = raise;
		this.#present = presentWord;
	}

	/** Marks a slot as taken from the start. The guest finds the device without an event. */
	occupy(slot: number): void {
		Atomics.or(this.#present, 0, 1 << slot);
	}

	/** Tells the guest that a slot has a new device. */
	insert(slot: number): void {
		this.occupy(slot);
		this.#change(slot);
	}

	/** Tells the guest that a slot's device is removed. */
	remove(slot: number): void {
		Atomics.and(this.#present, 0, ~(1 << slot));
		this.#change(slot);
	}

	/** Tells the guest of an event that is no slot's, by its bit of CHNG. */
	announce(bit: number): void {
		this.#change(bit);
	}

	read(offset: number, size: number): number {
		if (size !== 4) return 0;
		return offset === PRES ? this.#slots : offset === CHNG ? this.#changed : 0;
	}

	write(offset: number, size: number, value: number): void {
		if (offset === CHNG && size === 4) this.#changed = (this.#changed & ~value) >>> 0;
	}

	save(): SavedState {
		return { version: 1, present: this.#slots, changed: this.#changed };
	}

	/** Raises the interrupt again for a change that the guest has not read. */
	restore(state: unknown): void {
		const reader = new StateReader(this.name, state).version(1);
		const present = reader.u32("present");
		const changed = reader.u32("changed");
		Atomics.store(this.#present, 0, present | 0);
		this.#changed = changed;
		if (changed !== 0) this.#raise();
	}

	get #slots(): number {
		return Atomics.load(this.#present, 0) >>> 0;
	}

	#change(bit: number): void {
		this.#changed = (this.#changed | (1 << bit)) >>> 0;
		this.#raise();
	}
}

/*
 * The pvpanic device has one port. A guest kernel that panics writes an event there (QEMU docs/specs/pvpanic). It finds
 * the device through ACPI as QEMU0001.
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const PANICKED = 1;
const CRASH_LOADED = 2;

export class Pvpanic implements BusDevice, Stateful {
	readonly name = "pvpanic";
	readonly #onPanic: () => void;

	/** @param onPanic the guest's kernel panicked */
	constructor(onPanic: () => void) {
		this.#onPanic = onPanic;
	}

	/** The events that we understand. */
	read(_offset: number, _size: number): number {
		return PANICKED | CRASH_LOADED;
	}

	write(_offset: number, _size: number, value: number): void {
		/* CRASH_LOADED: a crash kernel takes over, so the machine goes on. */
		if ((value & PANICKED) !== 0) this.#onPanic();
	}

	/** There is nothing to keep. */
	save(): SavedState {
		return { version: 1 };
	}

	restore(state: unknown): void {
		new StateReader(this.name, state).version(1);
	}
}

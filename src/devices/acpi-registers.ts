/*
 * The three registers of hardware-reduced ACPI, one byte each: sleep control, sleep status and reset (ACPI 6.5
 * §4.8.3.7, §4.8.3.6). boot/acpi/tables.ts tells the guest where they are. Only the soft-off state exists.
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const SLEEP_CONTROL = 0;
const RESET = 2;
const SLP_EN = 1 << 5;
const SLP_TYP_SHIFT = 2;
const SLP_TYP_MASK = 7;
/* The values of \_S5 in the DSDT and of RESET_VALUE in the FADT. */
const S5 = 5;
const RESET_VALUE = 1;

/** How the guest ends the machine. */
export interface PowerEvents {
	onPowerOff(): void;
	onReset(): void;
}

export class AcpiRegisters implements BusDevice, Stateful {
	readonly name = "acpi";
	/** Bytes of port space. */
	static readonly SIZE = 3;
	readonly #events: PowerEvents;

	constructor(events: PowerEvents) {
		this.#events = events;
	}

	/** This machine never sleeps, so WAK_STS and the other bits are 0. */
	read(_offset: number, _size: number): number {
		return 0;
	}

	write(offset: number, _size: number, value: number): void {
		if (offset === SLEEP_CONTROL && (value & SLP_EN) !== 0) {
			if (((value >> SLP_TYP_SHIFT) & SLP_TYP_MASK) === S5) this.#events.onPowerOff();
		} else if (offset === RESET && (value & 0xff) === RESET_VALUE) {
			this.#events.onReset();
		}
	}

	/** There is nothing to keep. */
	save(): SavedState {
		return { version: 1 };
	}

	restore(state: unknown): void {
		new StateReader(this.name, state).version(1);
	}
}

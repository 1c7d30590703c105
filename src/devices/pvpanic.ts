/*
 * The pvpanic device, one port: a guest kernel that panics writes here what happened (QEMU docs/specs/pvpanic). Found
 * through ACPI as QEMU0001.
 */
import type { BusDevice } from "../base/bus.ts";

const PANICKED = 1;
const CRASH_LOADED = 2;

export class Pvpanic implements BusDevice {
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
		/* CRASH_LOADED: a crash kernel takes over, the machine goes on. */
		if ((value & PANICKED) !== 0) this.#onPanic();
	}
}

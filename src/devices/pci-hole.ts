/*
 * The PCI configuration ports 0xcf8 to 0xcff of a machine without PCI: all ones, so that a kernel's probe finds no
 * bus. Among them lies the reset control register of PC chipsets (port 0xcf9, Intel ICH9 §13.7.5), which kernels use
 * when other ways to reset fail.
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const RESET_CONTROL = 1;
const RST_CPU = 1 << 2;

export class PciHole implements BusDevice, Stateful {
	readonly name = "pci-hole";
	/** First port and number of ports. */
	static readonly PORT = 0xcf8;
	static readonly SIZE = 8;
	readonly #onReset: () => void;

	/** @param onReset the guest resets the machine */
	constructor(onReset: () => void) {
		this.#onReset = onReset;
	}

	read(_offset: number, _size: number): number {
		return 0xffffffff;
	}

	write(offset: number, size: number, value: number): void {
		if (offset === RESET_CONTROL && size === 1 && (value & RST_CPU) !== 0) this.#onReset();
	}

	/** There is nothing to keep. */
	save(): SavedState {
		return { version: 1 };
	}

	restore(state: unknown): void {
		new StateReader(this.name, state).version(1);
	}
}

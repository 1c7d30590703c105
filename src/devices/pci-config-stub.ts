/*
 * PCI configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2) of a machine without PCI: an address register, and no
 * device at any address. Kernels use the mechanism if the register keeps its value. Among its ports is the reset
 * control register of PC chipsets (Intel ICH9 §13.7.5), which kernels use when other resets fail.
 *
 *     0xcf8   CONFIG_ADDRESS, accesses of 32 bits
 *     0xcf9   reset control, accesses of 8 bits
 *     0xcfc   CONFIG_DATA: all ones, as from a slot that is empty
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const CONFIG_ADDRESS = 0;
/** The reserved bits read as 0. */
const CONFIG_ADDRESS_BITS = 0x80fffffc;
const RESET_CONTROL = 1;
const RST_CPU = 1 << 2;

export class PciConfigStub implements BusDevice, Stateful {
	readonly name = "pci-config-stub";
	/** First port and number of ports. */
	static readonly PORT = 0xcf8;
	static readonly SIZE = 8;
	readonly #onReset: () => void;
	#address = 0;

	/** @param onReset the guest resets the machine */
	constructor(onReset: () => void) {
		this.#onReset = onReset;
	}

	read(offset: number, size: number): number {
		return offset === CONFIG_ADDRESS && size === 4 ? this.#address : 0xffffffff;
	}

	write(offset: number, size: number, value: number): void {
		if (offset === CONFIG_ADDRESS && size === 4) this.#address = (value & CONFIG_ADDRESS_BITS) >>> 0;
		else if (offset === RESET_CONTROL && size === 1 && (value & RST_CPU) !== 0) this.#onReset();
	}

	save(): SavedState {
		return { version: 1, address: this.#address };
	}

	restore(state: unknown): void {
		const address = new StateReader(this.name, state).version(1).u32("address");
		this.#address = (address & CONFIG_ADDRESS_BITS) >>> 0;
	}
}

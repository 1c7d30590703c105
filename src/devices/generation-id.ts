/*
 * The generation ID: 16 random bytes in guest memory which tell a guest that it is a clone (Microsoft's "Virtual Machine
 * Generation ID", QEMU's docs/specs/vmgenid.rst). A machine that is restored gets other ones, and an event. Linux (5.18,
 * CONFIG_VMGENID) then makes new keys for its random numbers. boot/acpi/dsdt.ts says where the bytes are.
 *
 *     restore -> 16 new bytes -> bit of CHNG, interrupt -> _EVT of the event device -> Notify (VGEN, 0x80)
 */
import { randomFillSync } from "node:crypto";
import type { GuestMemory } from "../base/guest-memory.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

/** Bytes of the ID. */
const SIZE = 16;

export class GenerationId implements Stateful {
	readonly name = "generation-id";
	readonly #memory: GuestMemory;
	readonly #tell: () => void;
	#address = 0;

	/** @param tell lets the guest look */
	constructor(memory: GuestMemory, tell: () => void) {
		this.#memory = memory;
		this.#tell = tell;
	}

	/** Gives a guest that boots its first ID. @param address where its ACPI tables say that it is */
	place(address: number): void {
		this.#address = address;
		this.#renew();
	}

	/** The address is the guest's: its tables are those of the version that has booted it. */
	save(): SavedState {
		return { version: 1, address: this.#address };
	}

	/** Gives the guest another ID than the one in its memory, and tells it. */
	restore(state: unknown): void {
		const reader = new StateReader(this.name, state).version(1);
		const address = reader.u32("address");
		if (!this.#memory.contains(address, SIZE)) throw reader.refuse(`"address" ${address} is not in RAM`);
		this.#address = address;
		this.#renew();
		this.#tell();
	}

	#renew(): void {
		this.#memory.write(this.#address, randomFillSync(new Uint8Array(SIZE)));
	}
}

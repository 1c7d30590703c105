/*
 * The keyboard controller at ports 0x60 and 0x64, without a keyboard (IBM PC AT Technical Reference, Keyboard
 * Controller). It ends a kernel's probe at once. Its command 0xfe pulses the CPU's reset line. A kernel with ACPI does
 * not probe it. Kernels with acpi=off reboot by it.
 */
import type { BusDevice } from "../base/bus.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

const DATA = 0;
const STATUS_COMMAND = 4;
const STATUS_OBF = 0x01;
const STATUS_SYS = 0x04;
const STATUS_AUX_DATA = 0x20;
const CTR_SYS = 0x04;
const CTR_KBD_DISABLED = 0x10;
const CTR_AUX_DISABLED = 0x20;
const OUTPUT_PORT_RESET_OFF_A20 = 0x03;

const READ_CTR = 0x20;
const WRITE_CTR = 0x60;
const DISABLE_AUX = 0xa7;
const ENABLE_AUX = 0xa8;
const TEST_AUX = 0xa9;
const TEST_CONTROLLER = 0xaa;
const TEST_KBD = 0xab;
const DISABLE_KBD = 0xad;
const ENABLE_KBD = 0xae;
const READ_OUTPUT_PORT = 0xd0;
const WRITE_OUTPUT_PORT = 0xd1;
const LOOP_KBD = 0xd2;
const LOOP_AUX = 0xd3;
const PULSE_RESET = 0xfe;
/* Commands whose parameter is the next byte at the data port. */
const WITH_PARAMETER = [WRITE_CTR, WRITE_OUTPUT_PORT, LOOP_KBD, LOOP_AUX];
const CONTROLLER_OK = 0x55;
const PORT_OK = 0x00;
const NO_PORT = 0xff;

export class I8042 implements BusDevice, Stateful {
	readonly name = "i8042";
	readonly #onReset: () => void;
	#ctr = CTR_SYS | CTR_KBD_DISABLED | CTR_AUX_DISABLED;
	/* The command that waits for its parameter at the data port. */
	#pending = 0;
	#output = 0;
	#status = STATUS_SYS;

	/** @param onReset the guest resets the machine */
	constructor(onReset: () => void) {
		this.#onReset = onReset;
	}

	/** Covers ports 0x60 to 0x64. Those between read as ones. KVM answers 0x61, which is the PIT's. */
	read(offset: number, _size: number): number {
		if (offset === STATUS_COMMAND) return this.#status;
		if (offset !== DATA) return 0xff;
		this.#status &= ~(STATUS_OBF | STATUS_AUX_DATA);
		return this.#output;
	}

	write(offset: number, _size: number, value: number): void {
		const byte = value & 0xff;
		if (offset === STATUS_COMMAND) this.#command(byte);
		else if (offset === DATA) this.#data(byte);
	}

	save(): SavedState {
		return { version: 1, ctr: this.#ctr, pending: this.#pending, output: this.#output, status: this.#status };
	}

	restore(state: unknown): void {
		const reader = new StateReader(this.name, state).version(1);
		const ctr = reader.u8("ctr");
		const pending = reader.u8("pending");
		const output = reader.u8("output");
		const status = reader.u8("status");
		if ((ctr & CTR_AUX_DISABLED) === 0) throw reader.refuse("its mouse port is on");
		if (pending !== 0 && !WITH_PARAMETER.includes(pending)) {
			throw reader.refuse(`command ${pending} takes no parameter`);
		}
		if ((status & ~STATUS_OBF) !== STATUS_SYS) throw reader.refuse(`its status is ${status}`);
		this.#ctr = ctr;
		this.#pending = pending;
		this.#output = output;
		this.#status = status;
	}

	#command(command: number): void {
		this.#pending = 0;
		switch (command) {
			case READ_CTR:
				this.#answer(this.#ctr);
				return;
			case TEST_CONTROLLER:
				this.#answer(CONTROLLER_OK);
				return;
			case TEST_KBD:
				this.#answer(PORT_OK);
				return;
			case TEST_AUX:
				this.#answer(NO_PORT);
				return;
			case READ_OUTPUT_PORT:
				this.#answer(OUTPUT_PORT_RESET_OFF_A20);
				return;
			case DISABLE_AUX:
				this.#ctr |= CTR_AUX_DISABLED;
				return;
			case ENABLE_AUX:
				/* The bit stays set, which tells a driver that there is no second port. */
				return;
			case DISABLE_KBD:
				this.#ctr |= CTR_KBD_DISABLED;
				return;
			case ENABLE_KBD:
				this.#ctr &= ~CTR_KBD_DISABLED;
				return;
			case WRITE_CTR:
			case WRITE_OUTPUT_PORT:
			case LOOP_KBD:
			case LOOP_AUX:
				this.#pending = command;
				return;
			case PULSE_RESET:
				this.#onReset();
				return;
		}
	}

	#data(byte: number): void {
		const command = this.#pending;
		this.#pending = 0;
		if (command === WRITE_CTR) this.#ctr = byte | CTR_AUX_DISABLED;
		else if (command === LOOP_KBD) this.#answer(byte);
		else if (command === WRITE_OUTPUT_PORT && (byte & 1) === 0) this.#onReset();
		/* No answer to LOOP_AUX, because there is no second port, and none to a byte for the missing keyboard. */
	}

	#answer(byte: number): void {
		this.#output = byte;
		this.#status = STATUS_SYS | STATUS_OBF;
	}
}

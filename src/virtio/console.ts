/*
 * The console device (virtio 1.2 §5.3) with one port, hvc0 in Linux: queue 0 takes input to the guest, queue 1 output
 * from it. Input waits here until the guest has buffers, and above a limit at the backend. Output waits in its queue
 * until the backend has room.
 */
import type { ConsoleBackend } from "../backends/contract.ts";
import { type SavedState, StateReader } from "../base/state.ts";
import { struct } from "../base/struct.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import type { DeviceKind, DevicePlan } from "./device-kind.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const VIRTIO_ID_CONSOLE = 3;

export const VIRTIO_CONSOLE_F_SIZE = 1n << 0n;
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 1n << 2n;

/** virtio 1.2 §5.3.4. */
export const virtio_console_config = struct(
	"virtio_console_config",
	{ cols: "u16", rows: "u16", max_nr_ports: "u32", emerg_wr: "u32" },
	true,
);

const RECEIVEQ = 0;
const TRANSMITQ = 1;
/** Input kept for the guest before the backend is asked to wait, in bytes. */
const MAX_INPUT_BYTES = 64 * 1024;
/** The most input in a saved state. A backend may give more at once than the limit. */
const MAX_SAVED_INPUT_BYTES = 1 << 24;
/** The most bytes of emergency writes while the backend is full. Later ones are lost. */
const MAX_EMERGENCY_BYTES = 4096;
/** Most bytes taken of one buffer; the rest of a longer one, which no real driver sends, is dropped. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

/** The console device (virtio 1.2 §5.3) with one port, hvc0 in Linux. It owns its backend. */
export class ConsoleDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_CONSOLE;
	readonly features: bigint;
	readonly queueSizes = [64, 64];
	readonly config = new Uint8Array(virtio_console_config.sizeof);
	/** For emergency writes: a kernel prints before it probes any device. */
	readonly earlyConfig = true;
	readonly #backend: ConsoleBackend;
	#receiveq: Virtqueue | undefined;
	#transmitq: Virtqueue | undefined;
	#configChanged: Activation["configChanged"] | undefined;
	/** Input not yet given to the guest; the first piece from `#inputAt` on. */
	readonly #input: Uint8Array[] = [];
	#inputAt = 0;
	#inputBytes = 0;
	#inputWanted = true;
	/** The backend's `write` has returned false. */
	#blocked = false;
	/** Emergency writes since then. */
	#emergencyBytes = 0;

	/** @param backend the terminal, closed with the device */
	constructor(backend: ConsoleBackend, name = "virtio-console0") {
		this.name = name;
		this.#backend = backend;
		this.features = VIRTIO_CONSOLE_F_EMERG_WRITE | (backend.size === undefined ? 0n : VIRTIO_CONSOLE_F_SIZE);
		if (backend.size !== undefined) this.#setSize(backend.size.columns, backend.size.rows);
		backend.start?.({
			input: (bytes) => this.#takeInput(bytes),
			writable: () => {
				this.#blocked = false;
				this.#emergencyBytes = 0;
				this.#transmit();
			},
			resized: (columns, rows) => {
				this.#setSize(columns, rows);
				if ((this.features & VIRTIO_CONSOLE_F_SIZE) !== 0n) this.#configChanged?.();
			},
		});
	}

	activate({ queues, configChanged }: Activation): void {
		this.#receiveq = queues[RECEIVEQ];
		this.#transmitq = queues[TRANSMITQ];
		this.#configChanged = configChanged;
	}

	notify(index: number): void {
		if (index === RECEIVEQ) this.#receive();
		else this.#transmit();
	}

	/** Emergency write: one character from a driver that has not even acknowledged the device (§5.3.4). */
	writeConfig(offset: number, data: Uint8Array): void {
		if (offset !== virtio_console_config.emerg_wr) return;
		/* An emergency write cannot wait: the driver does not ask whether there is room. */
		if (this.#blocked && ++this.#emergencyBytes > MAX_EMERGENCY_BYTES) return;
		if (!this.#backend.write(data.subarray(0, 1))) this.#blocked = true;
	}

	reset(): void {
		this.#receiveq = undefined;
		this.#transmitq = undefined;
		this.#configChanged = undefined;
	}

	/** Input that the guest has not read. Output belongs to the backend as soon as it leaves the queue. */
	save(): SavedState {
		const [first, ...rest] = this.#input;
		const input = first === undefined ? [] : [first.subarray(this.#inputAt), ...rest];
		return { version: 1, input: new Uint8Array(Buffer.concat(input)) };
	}

	restore(state: unknown, activation: Activation | undefined): void {
		const input = new StateReader(this.name, state).version(1).bytes("input", 0, MAX_SAVED_INPUT_BYTES);
		if (activation !== undefined) this.activate(activation);
		this.#takeInput(input);
	}

	async close(): Promise<void> {
		this.reset();
		await this.#backend.close();
	}

	#transmit(): void {
		const queue = this.#transmitq;
		if (queue === undefined) return;
		while (!this.#blocked) {
			const chain = queue.pop();
			if (chain === undefined) break;
			let room = MAX_OUTPUT_BYTES;
			for (let i = 0; i < chain.readable.count && room > 0; i++) {
				const bytes = chain.readable.bytes(i).subarray(0, room);
				room -= bytes.length;
				if (!this.#backend.write(bytes)) this.#blocked = true;
			}
			queue.push(chain, 0);
		}
		queue.flush();
	}

	#takeInput(bytes: Uint8Array): void {
		if (bytes.length === 0) return;
		this.#input.push(bytes.slice());
		this.#inputBytes += bytes.length;
		this.#receive();
	}

	#receive(): void {
		const queue = this.#receiveq;
		if (queue !== undefined) {
			while (this.#inputBytes > 0) {
				const chain = queue.pop();
				if (chain === undefined) break;
				queue.push(chain, this.#fill(chain));
			}
			queue.flush();
		}
		const wanted = this.#inputBytes < MAX_INPUT_BYTES;
		if (wanted !== this.#inputWanted) {
			this.#inputWanted = wanted;
			this.#backend.setInputWanted?.(wanted);
		}
	}

	/** Moves input into a chain, as much as fits. Returns how many bytes it moved. */
	#fill({ writable }: Chain): number {
		let written = 0;
		while (written < writable.totalBytes && this.#inputBytes > 0) {
			const first = this.#input[0]!.subarray(this.#inputAt);
			const taken = writable.copyFrom(first, written);
			written += taken;
			this.#inputBytes -= taken;
			this.#inputAt += taken;
			if (taken === first.length) {
				this.#input.shift();
				this.#inputAt = 0;
			}
		}
		return written;
	}

	#setSize(columns: number, rows: number): void {
		const view = new DataView(this.config.buffer);
		view.setUint16(virtio_console_config.cols, columns, true);
		view.setUint16(virtio_console_config.rows, rows, true);
	}
}

/** The field of MachineConfig. */
export interface ConsoleFields {
	/** A virtio-console (hvc0) besides the serial port, which then has no input; false when missing. */
	virtioConsole?: boolean | undefined;
}

const PLAN: DevicePlan<undefined> = {
	id: "console",
	cmdline: "console=hvc0",
	create: (_, { consoleLine }) => new ConsoleDevice(consoleLine("virtio-console0")),
};

export const consoleKind: DeviceKind<ConsoleFields> = {
	plan: ({ virtioConsole = false }) => (virtioConsole ? [PLAN] : []),
};

/*
 * A device of a user's file on a machine. It passes everything on to the user's device and catches what that throws. Then
 * the device stands still, as if it took long: the guest waits for its request and runs on. When the file has been changed
 * without the error, the next device takes the request over.
 *
 * A device that takes over begins with the state of the one before where both have `save` and `restore`. Otherwise it is
 * activated anew, on the driver's queues as they are. Chains that the one before had not finished go to the new one.
 */
import type { SavedState } from "../base/state.ts";
import type { Activation, VirtioDevice } from "../virtio/device.ts";

/** The user's device has thrown in `method`. Throws when the machine has to end. */
export type OnDefect = (error: unknown, method: string) => void;

/** A device of a user's file. */
export class FileDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId: number;
	readonly features: bigint;
	readonly queueSizes: readonly number[];
	/** The user's device. */
	readonly device: VirtioDevice;
	writeConfig?: (offset: number, data: Uint8Array) => void;
	/** Without the user's own there only for a successor. */
	save?: () => SavedState;
	restore?: (state: unknown, activation: Activation | undefined) => void;
	readonly #onDefect: OnDefect;
	#queues: Activation["queues"] = [];
	/** It has thrown, and stands still until it is reset or replaced. */
	#failed = false;
	/** Its successor is about to take over. */
	#leaving = false;
	#closed = false;

	/** @param id its name on the machine; the device's own when missing */
	constructor(device: VirtioDevice, id: string | undefined, onDefect: OnDefect) {
		this.device = device;
		this.name = id ?? device.name;
		this.deviceId = device.deviceId;
		this.features = device.features;
		this.queueSizes = [...device.queueSizes];
		this.#onDefect = onDefect;
		if (device.writeConfig !== undefined) {
			this.writeConfig = (offset, data) => void this.#guard("writeConfig", () => device.writeConfig?.(offset, data));
		}
		if (this.#hasState) {
			this.save = () => device.save!();
			this.restore = (state, activation) => device.restore!(state, this.#begin(activation));
		}
	}

	/** It has thrown, and stands still. */
	get failed(): boolean {
		return this.#failed;
	}

	get config(): Uint8Array {
		return this.device.config;
	}

	get earlyConfig(): boolean {
		return this.device.earlyConfig === true;
	}

	activate(activation: Activation): void {
		this.#guard("activate", () => this.device.activate(this.#begin(activation)!));
	}

	notify(index: number): void {
		this.#guard("notify", () => this.device.notify(index));
	}

	/** A driver that resets a device that stands still can use it again. */
	reset(): void | Promise<void> {
		this.#queues = [];
		this.#failed = false;
		const settled = this.#guard("reset", () => this.device.reset());
		return settled instanceof Promise ? settled.catch((error) => this.#defect(error, "reset")) : undefined;
	}

	async quiesce(): Promise<void> {
		if (this.device.quiesce !== undefined && !this.#failed) {
			await this.device.quiesce();
			return;
		}
		if (this.#leaving) for (const queue of this.#queues) queue?.unpopAll();
	}

	/** Prepares `this` to take over from `before` by Machine.replaceDevice. @returns undoes that */
	takeOverFrom(before: FileDevice): () => void {
		const { save } = before;
		before.#leaving = true;
		if (!this.keepsStateOf(before)) {
			before.save = () => ({ version: 1 });
			before.restore ??= () => undefined;
			this.restore = (_state, activation) => {
				if (activation !== undefined) this.device.activate(this.#begin(activation)!);
			};
		}
		return () => {
			before.#leaving = false;
			if (save === undefined) delete before.save;
			else before.save = save;
		};
	}

	/** Both take their state with them. */
	keepsStateOf(before: FileDevice): boolean {
		return before.#hasState && this.#hasState;
	}

	async close(): Promise<void> {
		if (this.#closed) return;
		this.#closed = true;
		try {
			await this.device.close();
		} catch (error) {
			this.#defect(error, "close");
		}
	}

	get #hasState(): boolean {
		return this.device.save !== undefined && this.device.restore !== undefined;
	}

	/** The queues are its own from now on. Errors of its callbacks are caught, too. */
	#begin(activation: Activation | undefined): Activation | undefined {
		this.#queues = activation?.queues ?? [];
		if (activation === undefined) return undefined;
		const enter: Activation["enter"] = (name, run) => activation.enter(name, () => void this.#guard("a callback", run));
		return { ...activation, enter };
	}

	#guard<T>(method: string, run: () => T): T | undefined {
		if (this.#failed || this.#closed) return undefined;
		try {
			return run();
		} catch (error) {
			this.#defect(error, method);
			return undefined;
		}
	}

	#defect(error: unknown, method: string): void {
		this.#failed = true;
		this.#onDefect(error, method);
	}
}

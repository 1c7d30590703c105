/*
 * The way into a machine and the way out of it. Whatever happens on the host (a file descriptor is ready, a request is
 * done, a byte was typed) enters by `enter`, so that what a device or a backend throws ends this machine in order and
 * nothing else. The first cause of the end wins; after it nothing enters any more.
 */
import type { Enter } from "../base/enter.ts";
import { log } from "../base/log.ts";
import type { MachineEnd } from "./ending.ts";

export class Entry {
	/** Made once, handed to all that calls back. */
	readonly enter: Enter;
	#end: MachineEnd | undefined;
	#onEnd: ((end: MachineEnd) => void) | undefined;

	constructor() {
		this.enter = (name, run) => {
			if (this.#end !== undefined) return;
			try {
				run();
			} catch (error) {
				this.failed(name, error);
			}
		};
	}

	/** How the machine ends, once it does. */
	get ended(): MachineEnd | undefined {
		return this.#end;
	}

	/** Ends the machine. Only the first call counts. */
	end(how: MachineEnd): void {
		if (this.#end !== undefined) return;
		this.#end = how;
		this.#onEnd?.(how);
	}

	/** Something of the machine threw: it is logged and the machine ends. */
	failed(name: string, error: unknown): void {
		const known = error instanceof Error;
		log("error", `${name}: ${(known ? error.stack : undefined) ?? String(error)}`);
		this.end({ reason: "device-failed", detail: `${name}: ${known ? error.message : String(error)}` });
	}

	/** Calls `onEnd` at the end, or now when the machine has ended already. One listener: the machine. */
	onEnd(onEnd: (end: MachineEnd) => void): void {
		this.#onEnd = onEnd;
		if (this.#end !== undefined) onEnd(this.#end);
	}
}

/*
 * The way into a machine and the way out of it. Whatever happens on the host (a file descriptor is ready, a request is
 * done, a byte was typed) enters by `enter`, so that what a device or a backend throws ends this machine in order and
 * nothing else. The first cause of the end wins; after it nothing enters any more.
 */
import { inspect } from "node:util";
import type { Enter } from "../base/enter.ts";
import { Logger } from "../base/log.ts";
import type { ShutdownReason } from "./shutdown-reason.ts";

export class Entry {
	/** Made once, handed to all that calls back. */
	readonly enter: Enter;
	/** What is logged while something of this machine runs goes here. */
	readonly logger: Logger;
	/** Called when the guest's kernel is seen to panic, which it may survive for a while. */
	onPanic: ((why: string | undefined) => void) | undefined;
	#end: ShutdownReason | undefined;
	#onEnd: ((end: ShutdownReason) => void) | undefined;

	constructor(logger = Logger.current) {
		this.logger = logger;
		this.enter = (name, run) => {
			if (this.#end === undefined) this.guard(name, run);
		};
	}

	/** How the machine ends, once it does. */
	get ended(): ShutdownReason | undefined {
		return this.#end;
	}

	/** Ends the machine. Only the first call counts. */
	end(how: ShutdownReason): void {
		if (this.#end !== undefined) return;
		this.#end = how;
		this.#onEnd?.(how);
	}

	/** As `enter`, also after the end. */
	guard(name: string, run: () => void): void {
		const before = Logger.swap(this.logger);
		try {
			run();
		} catch (error) {
			this.failed(name, error);
		} finally {
			Logger.swap(before);
		}
	}

	/** Something of the machine threw: it is logged and the machine ends. */
	failed(name: string, error: unknown): void {
		const message = error instanceof Error ? error.message : inspect(error);
		const stack = error instanceof Error ? error.stack : undefined;
		this.logger.log("error", `${name}: ${stack ?? message}`);
		this.end({ reason: "device-failed", detail: `${name}: ${message}` });
	}

	/** Calls `onEnd` at the end, or now when the machine has ended already. One listener: the machine. */
	onEnd(onEnd: (end: ShutdownReason) => void): void {
		this.#onEnd = onEnd;
		if (this.#end !== undefined) onEnd(this.#end);
	}
}

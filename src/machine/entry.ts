/*
 * The way into a machine, and its end. Every event of the host (a descriptor is ready, a request is done, a byte was
 * typed) enters by `enter`. So an error of a device or a backend ends only this machine, in order. The first cause of
 * the end wins. After it nothing enters.
 */
import { inspect } from "node:util";
import type { Enter } from "../base/enter.ts";
import { Logger } from "../base/log.ts";
import { Timeline } from "../base/timeline.ts";
import type { ShutdownReason } from "./shutdown-reason.ts";

export class Entry {
	/** Made once, and passed to all code with callbacks. */
	readonly enter: Enter;
	/** The log for messages of this machine's code. */
	readonly logger: Logger;
	/** What the making of this machine has reached when. */
	readonly timeline = new Timeline();
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

	/** Code of the machine has thrown: logs the error and ends the machine. */
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

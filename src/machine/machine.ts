/*
 * Machine: what a user of tsvmm holds. `create` acquires what it needs of the host and wires it, and leaves no trace
 * when a step fails; `start` lets the vCPUs run; `ended` says how it ended, once all of it is torn down again.
 *
 *     create -> created -- start --> running <-- pause, resume --> paused      any of them -- stop, the guest --> ended
 */
import type { HostConsole } from "../backends/console.ts";
import type { UnixVsock } from "../backends/unix-vsock.ts";
import { StateError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { Teardown } from "../base/teardown.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { build, type Wired } from "./builder.ts";
import { type MachineConfig, validateConfig } from "./config.ts";
import { describeEnd, type MachineEnd } from "./ending.ts";
import { Entry } from "./entry.ts";
import { acquire } from "./resources.ts";

/** What a caller may put into the machine besides its configuration. */
export interface MachineParts {
	/** Virtio devices of one's own; they follow the configured ones. */
	devices?: (memory: GuestMemory) => VirtioDevice[];
	/** Takes the place of `config.console`. */
	console?: HostConsole;
}

/** Where a machine is in its life. */
export type MachineState = "created" | "running" | "paused" | "ended";

export class Machine {
	/** Resolves when the guest has ended and everything is released. Never rejects. */
	readonly ended: Promise<MachineEnd>;
	/** The host's side of vsock, when the machine has one. */
	readonly vsock: UnixVsock | undefined;
	readonly memory: GuestMemory;
	/** The command line that the kernel was given. */
	readonly cmdline: string;
	readonly #wired: Wired;
	readonly #entry: Entry;
	#started = false;

	/**
	 * Builds the machine; nothing runs yet. The caller must call `start` or `stop`.
	 *
	 * @throws UsageError for a configuration that cannot be, HostError for what the host lacks, ImageError for the kernel
	 */
	static async create(config: MachineConfig, parts: MachineParts = {}): Promise<Machine> {
		validateConfig(config);
		const teardown = new Teardown();
		const entry = new Entry();
		try {
			const resources = await acquire(config, teardown, parts.console);
			const wired = build(config, resources, parts.devices ?? (() => []), entry, teardown);
			return new Machine(wired, resources.vsock, entry, teardown);
		} catch (error) {
			entry.end({ reason: "stopped" });
			await teardown.run().catch(() => undefined);
			throw error;
		}
	}

	private constructor(wired: Wired, vsock: UnixVsock | undefined, entry: Entry, teardown: Teardown) {
		this.memory = wired.memory;
		this.cmdline = wired.cmdline;
		this.vsock = vsock;
		this.#wired = wired;
		this.#entry = entry;
		this.ended = new Promise((resolve) => {
			entry.onEnd((how) => {
				wired.threads.release();
				/* Outside the handler that noticed it. */
				setImmediate(async () => resolve(await tearDown(teardown, how)));
			});
		});
	}

	/** Where the machine is in its life. */
	get state(): MachineState {
		if (this.#entry.ended !== undefined) return "ended";
		if (!this.#started) return "created";
		return this.#wired.threads.paused ? "paused" : "running";
	}

	/**
	 * Lets all vCPUs run; after `pause`, `resume` will. A start that fails ends the machine.
	 *
	 * @throws StateError ERR_MACHINE_STATE when it was started before or has ended
	 * @throws HostError ERR_VCPU_THREAD when the host refuses a thread
	 */
	start(): void {
		this.#mustLive("start");
		if (this.#started) throw new StateError("ERR_MACHINE_STATE", "Cannot start the machine: it was started before");
		this.#started = true;
		this.#orEnd(() => this.#wired.threads.start());
	}

	/**
	 * Stops all vCPUs between two instructions of the guest; resolves when the last has stopped, or at `resume` or the
	 * machine's end if those come first. Devices still finish what is in flight. Before `start` it holds the vCPUs back.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 */
	async pause(): Promise<void> {
		this.#mustLive("pause");
		await this.#wired.threads.pause();
	}

	/**
	 * Lets paused vCPUs run on; the guest's watchdogs are told that time has passed. Without `pause` it does nothing.
	 *
	 * @throws StateError ERR_MACHINE_STATE when the machine has ended
	 * @throws HostError ERR_VCPU_THREAD when the host refuses a thread that `start` had left to it
	 */
	resume(): void {
		this.#mustLive("resume");
		this.#orEnd(() => this.#wired.threads.resume());
	}

	/** Ends the machine as the host's own wish, at any time; resolves as `ended` does. */
	stop(): Promise<MachineEnd> {
		this.#entry.end({ reason: "stopped" });
		return this.ended;
	}

	#mustLive(what: string): void {
		const end = this.#entry.ended;
		if (end === undefined) return;
		throw new StateError("ERR_MACHINE_STATE", `Cannot ${what} the machine: it has ended (${describeEnd(end)})`);
	}

	/** vCPUs of which only some run are no machine. */
	#orEnd(step: () => void): void {
		try {
			step();
		} catch (error) {
			this.#entry.end({ reason: "start-failed", detail: (error as Error).message });
			throw error;
		}
	}
}

/** Releases everything; what fails is told with how the machine ended. */
async function tearDown(teardown: Teardown, how: MachineEnd): Promise<MachineEnd> {
	try {
		await teardown.run();
		return how;
	} catch (error) {
		const detail = `${how.detail ?? ""} (while ending: ${(error as Error).message})`.trim();
		return { reason: how.reason, detail };
	}
}

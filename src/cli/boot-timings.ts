/*
 * The phases of `tsvmm boot` and `tsvmm snapshot restore`, from the start of this process to the first byte of the guest's
 * init on the console.
 */
import { FileConsole, NullConsole } from "../backends/console.ts";
import { WatchedConsole } from "../backends/watched-console.ts";
import { clockMs, Timeline } from "../base/timeline.ts";
import { processMarks, processStartMs } from "../host/process-start.ts";
import type { ConsoleConfig } from "../machine/config.ts";
import { ConsoleTimes } from "../machine/kernel-log.ts";
import type { Machine } from "../machine/machine.ts";
import { type Timings, timingsOf } from "./timings.ts";

export class BootTimings {
	readonly #timeline = new Timeline();
	readonly #console = new ConsoleTimes();
	#startMs = 0;

	/** The command line is read: the machine is made now. @returns its console, whose output is seen here, too */
	begin(console: ConsoleConfig = { kind: "none" }): ConsoleConfig {
		this.#timeline.mark("command");
		return { kind: "own", console: new WatchedConsole(opened(console), (bytes) => this.#see(bytes)) };
	}

	/** The guest runs. */
	started(machine: Pick<Machine, "timeline">): void {
		this.#startMs = clockMs();
		this.#timeline.mark("start", this.#startMs);
		this.#timeline.add(machine.timeline);
	}

	get timings(): Timings {
		return timingsOf(processStartMs(), [
			...processMarks(),
			...this.#timeline.marks,
			...this.#console.marks(this.#startMs),
		]);
	}

	#see(bytes: Uint8Array): void {
		this.#console.write(bytes, clockMs());
	}
}

function opened(config: ConsoleConfig) {
	if (config.kind === "own") return config.console;
	return config.kind === "file" ? new FileConsole(config.path) : new NullConsole();
}

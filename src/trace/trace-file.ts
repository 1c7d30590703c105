/*
 * A trace in a file: an observer, its filter, the writer of a format, and the file.
 */
import type { Observer } from "../base/observer.ts";
import type { TraceEvent, TraceSink } from "./event.ts";
import type { TraceFileConfig } from "./file-config.ts";
import { TraceFilter } from "./filter.ts";
import { formatOfTrace } from "./format.ts";
import { eventObserver } from "./recorder.ts";
import { TraceOutput } from "./write/output.ts";
import { type TraceWriter, writerFor } from "./write/writer.ts";

/** What is traced: a Machine. */
export interface Traceable {
	/** As of Machine. */
	observe(observer: Observer): () => void;
	/** As of Machine. */
	readonly ended: Promise<unknown>;
}

/**
 * Writes the events of a machine that exists to a file, from now until its end, or until `close`. It does not see
 * accesses that native code answers; `traceFiles` in the machine's configuration does.
 *
 * @param file its path, or a path with a format and a choice of events
 * @throws UsageError ERR_TRACE_FORMAT, ERR_OPTION_TRACE; HostError ERR_TRACE_FILE
 * @example
 * const trace = await traceTo(machine, { path: "net.pcapng" });
 * machine.start();
 */
export async function traceTo(machine: Traceable, file: string | TraceFileConfig): Promise<TraceFile> {
	const trace = await TraceFile.open(typeof file === "string" ? { path: file } : file);
	const leave = machine.observe(trace.observer);
	void machine.ended.then(async () => {
		leave();
		await trace.close();
	});
	return trace;
}

/** A trace that is being written. The machine goes on after `close`, and its events are not recorded any more. */
export class TraceFile {
	/** Gives its events to the file. */
	readonly observer: Observer;
	readonly #output: TraceOutput;
	readonly #writer: TraceWriter;
	#lost = 0;
	#ended = false;

	/**
	 * Opens the file.
	 *
	 * @throws UsageError ERR_TRACE_FORMAT, ERR_OPTION_TRACE; HostError ERR_TRACE_FILE
	 * @internal
	 */
	static async open(config: TraceFileConfig): Promise<TraceFile> {
		const writer = writerFor(config.format ?? formatOfTrace(config.path));
		new TraceFilter(config.events); /* its words are good */
		return new TraceFile(await TraceOutput.open(config.path), writer, config.events);
	}

	private constructor(output: TraceOutput, writer: TraceWriter, events: readonly string[] | undefined) {
		this.#output = output;
		this.#writer = writer;
		const sink: TraceSink = {};
		if (writer.event !== undefined) sink.event = (event) => this.#event(event);
		if (writer.packet !== undefined) {
			sink.packet = (packet) => {
				if (output.full) this.#lost++;
				else output.write(writer.packet!(packet));
			};
		}
		this.observer = eventObserver(sink, events);
	}

	/** Events and packets that the file did not take, because the disk was slower than they came. */
	get lost(): number {
		return this.#lost;
	}

	/** Completes the file. A second call does nothing. */
	async close(): Promise<void> {
		const end = this.#ended ? undefined : this.#writer.end?.();
		if (end !== undefined && end.length > 0) this.#output.write(end);
		this.#ended = true;
		await this.#output.close();
	}

	#event(event: TraceEvent): void {
		if (this.#ended) return;
		if (this.#output.full) {
			this.#lost++;
			return;
		}
		const parts = this.#lost > 0 ? [this.#writer.event!({ t: event.t, kind: "lost", events: this.#lost })] : [];
		this.#lost = 0;
		this.#output.write([...parts, this.#writer.event!(event)].join(""));
	}
}

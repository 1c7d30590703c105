/*
 * The streams of frames to the pages that are open. A frame is a line of JSON and tells the machine's state at one
 * moment. Between two frames nothing is kept for a page but its positions in logs and in the console. A page that
 * reads slowly gets fewer frames, so it can neither slow the guest down nor fill memory.
 */
import type { ServerResponse } from "node:http";
import { toJson } from "./server.ts";

/** A page's positions: up to where it has the log and the console's output. */
export interface Positions {
	log: number;
	console: number;
	events: number;
}

/** Makes a page's next frame, and moves its positions. */
export type FrameSource = (positions: Positions) => unknown;

/** Four frames in a second look alive and cost little. */
const PERIOD_MS = 250;
/** Of one page. Another one ends the oldest. */
const MOST_STREAMS = 8;

interface Stream {
	readonly response: ServerResponse;
	readonly positions: Positions;
	/** The page has not read the last frame. */
	busy: boolean;
}

export class Frames {
	readonly #source: FrameSource;
	readonly #onPeriod: () => void;
	readonly #streams = new Set<Stream>();
	#timer: NodeJS.Timeout | undefined;

	/** @param onPeriod called after the frames of each period */
	constructor(source: FrameSource, onPeriod: () => void) {
		this.#source = source;
		this.#onPeriod = onPeriod;
	}

	/** Sends frames until the page has gone. `first` comes before them. */
	add(response: ServerResponse, positions: Positions, first: unknown): void {
		const [oldest] = this.#streams;
		if (this.#streams.size >= MOST_STREAMS) oldest?.response.end();
		const stream: Stream = { response, positions, busy: false };
		this.#streams.add(stream);
		response.on("drain", () => {
			stream.busy = false;
		});
		response.on("close", () => this.#remove(stream));
		response.on("error", () => this.#remove(stream));
		response.writeHead(200, { "Content-Type": "application/x-ndjson" });
		this.#write(stream, first);
		this.#send(stream);
		this.#timer ??= setInterval(() => this.sendNow(), PERIOD_MS).unref();
	}

	/** Sends a frame to each page that has read its last one. */
	sendNow(): void {
		for (const stream of this.#streams) this.#send(stream);
		this.#onPeriod();
	}

	/** Ends all streams with a last line. */
	end(last: unknown): void {
		clearInterval(this.#timer);
		this.#timer = undefined;
		for (const { response } of this.#streams) response.end(`${toJson(last)}\n`);
	}

	#send(stream: Stream): void {
		if (!stream.busy) this.#write(stream, this.#source(stream.positions));
	}

	#write(stream: Stream, line: unknown): void {
		if (!stream.response.writableEnded) stream.busy = !stream.response.write(`${toJson(line)}\n`);
	}

	#remove(stream: Stream): void {
		this.#streams.delete(stream);
		if (this.#streams.size > 0) return;
		clearInterval(this.#timer);
		this.#timer = undefined;
	}
}

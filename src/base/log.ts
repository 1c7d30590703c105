/*
 * Diagnostics. Each machine has a logger of its own; what no machine is behind goes to the process's, on stderr. `log`
 * and `logRateLimited` write to the logger of whoever runs now: a machine puts its own in place whenever something
 * enters it (`Logger.swap`), as tracing's scoped subscribers do, so that a device needs to know neither.
 *
 * Guest-triggered messages go through `logRateLimited`, so that a hostile guest cannot fill a log: at most one line per
 * second and subject, the number of suppressed ones is added to the next. Control characters are escaped in every line:
 * some of a message may be the guest's.
 */
import { printable } from "./printable.ts";

/** Least severe last. */
export type LogLevel = "error" | "warn" | "info" | "debug";
const RANK: Record<LogLevel, number> = { error: 0, warn: 1, info: 2, debug: 3 };
const SUBJECT_MS = 1000;

/** What a log is made of. */
export interface LogOptions {
	/** The least severe level that is written; "warn" when missing. */
	level?: LogLevel | undefined;
	/** Put before each message, to tell machines apart; nothing when missing. */
	prefix?: string | undefined;
	/** Takes each line, with its newline; stderr when missing. */
	write?: ((line: string) => void) | undefined;
}

export class Logger {
	static #current: Logger;
	readonly #write: (line: string) => void;
	readonly #prefix: string;
	readonly #lastMs = new Map<string, number>();
	readonly #suppressed = new Map<string, number>();
	#threshold: number;

	constructor({ level = "warn", prefix, write }: LogOptions = {}) {
		this.#threshold = RANK[level];
		this.#prefix = prefix === undefined ? "" : `${prefix}: `;
		this.#write = write ?? ((line) => void process.stderr.write(line));
	}

	/** The logger of whoever runs now. */
	static get current(): Logger {
		Logger.#current ??= new Logger();
		return Logger.#current;
	}

	/** Puts `logger` in place. Returns the one before, which the caller puts back in the same turn. */
	static swap(logger: Logger): Logger {
		const before = Logger.current;
		Logger.#current = logger;
		return before;
	}

	/** Runs `work` with this logger in place. */
	run<T>(work: () => T): T {
		const before = Logger.swap(this);
		try {
			return work();
		} finally {
			Logger.swap(before);
		}
	}

	/** The least severe level that is written. */
	set level(level: LogLevel) {
		this.#threshold = RANK[level];
	}

	/** Writes a line as it is, whatever the level. */
	line(text: string): void {
		this.#write(`${text}\n`);
	}

	/** Writes "tsvmm: level: message" when the level is enabled. */
	log(level: LogLevel, message: string): void {
		if (RANK[level] <= this.#threshold) this.line(`tsvmm: ${level}: ${this.#prefix}${printable(message)}`);
	}

	/** Like `log`, but at most once per second for the same `subject` (one per device is the habit). */
	logRateLimited(subject: string, level: LogLevel, message: string): void {
		if (RANK[level] > this.#threshold) return;
		const now = performance.now();
		const previous = this.#lastMs.get(subject);
		const missed = this.#suppressed.get(subject) ?? 0;
		if (previous !== undefined && now - previous < SUBJECT_MS) {
			this.#suppressed.set(subject, missed + 1);
			return;
		}
		this.#suppressed.delete(subject);
		this.#lastMs.set(subject, now);
		this.log(level, `${subject}: ${message}${missed > 0 ? ` (${missed} similar messages suppressed)` : ""}`);
	}
}

/** Sets the least severe level of the logger of whoever runs now. */
export function setLogLevel(level: LogLevel): void {
	Logger.current.level = level;
}

/** Prints one line "tsvmm: level: message" when the level is enabled. */
export function log(level: LogLevel, message: string): void {
	Logger.current.log(level, message);
}

/** Like `log`, but at most once per second for the same `subject` (one per device is the habit). */
export function logRateLimited(subject: string, level: LogLevel, message: string): void {
	Logger.current.logRateLimited(subject, level, message);
}

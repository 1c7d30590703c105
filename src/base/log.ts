/*
 * Diagnostics. Each machine has its own logger. The process has one for all other messages, on stderr. `log` and
 * `logRateLimited` write to the current logger. A machine makes its logger current when an event enters it
 * (`Logger.swap`), like the scoped subscribers of Rust's tracing. So a device need not know its machine's logger.
 *
 * Messages that a guest can cause go through `logRateLimited`, so that a hostile guest cannot fill a log. It writes at
 * most one line per second and subject, and adds the number of suppressed ones to the next. Control characters are
 * escaped in every line, because parts of it may come from the guest.
 */
/** Least severe last. */
export type LogLevel = "error" | "warn" | "info" | "debug";
const RANK: Record<LogLevel, number> = { error: 0, warn: 1, info: 2, debug: 3 };
const SUBJECT_MS = 1000;

/** Options of a logger. */
export interface LogOptions {
	/** The least severe level that is written; "warn" when missing. */
	level?: LogLevel | undefined;
	/** A prefix of each message, to tell machines apart. None when missing. */
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

	/** The current logger. */
	static get current(): Logger {
		Logger.#current ??= new Logger();
		return Logger.#current;
	}

	/** Makes `logger` current. Returns the previous one, which the caller puts back in the same turn. */
	static swap(logger: Logger): Logger {
		const before = Logger.current;
		Logger.#current = logger;
		return before;
	}

	/** Runs `work` with this logger as the current one. */
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

	/** Writes a line unchanged, at any level. */
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

/** Sets the least severe level of the current logger. */
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

/**
 * `text` with all control characters but newline and tab written as \xNN. Those of a guest or a file could move the
 * terminal's cursor, set its title, or make it answer as if the user had typed.
 */
export function printable(text: string): string {
	// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
	return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/*
 * An error with only an errno, by which an operation of a file system fails. Errors of Node's `fs` have the same
 * `code`, so both may be thrown. Each errno has one error, without a stack, because a guest may look for thousands of
 * missing files in a second.
 */
import { constants } from "node:os";

const { errno } = constants;

/** "ENOENT" and the others of errno(3). */
export type Errno = keyof typeof errno;

/** The failure of an operation of a file system, as errno(3) has it. */
export class ErrnoError extends Error {
	static readonly #known = new Map<number, ErrnoError>();
	/** Its name: "ENOENT". */
	readonly code: string;
	/** Its number, as Linux has it. */
	readonly number: number;

	private constructor(number: number) {
		const name = Object.entries(errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
		super(name);
		this.code = name;
		this.number = number;
		delete this.stack;
	}

	/** The error of this errno; always the same one. */
	static of(code: Errno | number): ErrnoError {
		const number = typeof code === "number" ? code : errno[code];
		const known = ErrnoError.#known.get(number);
		if (known !== undefined) return known;
		const made = new ErrnoError(number);
		ErrnoError.#known.set(number, made);
		return made;
	}
}

/** The errno that an error stands for: an ErrnoError, or one of Node's own; undefined when it is another kind of error. */
export function errnoOf(error: unknown): number | undefined {
	if (error instanceof ErrnoError) return error.number;
	if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
	return (errno as Record<string, number>)[error.code];
}

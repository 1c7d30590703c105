/*
 * What a check has found, line by line. A check says what is right, too: a student sees how far the program came.
 */

/** One line of a check. */
export interface Finding {
	/** "right" or "wrong"; "open" is a part that this host cannot check. */
	readonly verdict: "right" | "wrong" | "open";
	/** What was seen, and for a wrong one what was expected. */
	readonly text: string;
	/** What to do about it. */
	readonly hint?: string;
}

/** What went wrong, and what to do about it. */
export interface Failure {
	readonly text: string;
	readonly hint?: string | undefined;
}

/** Ends a check: what follows would say nothing. It was reported. */
export class CheckEnded extends Error {}

/** Collects findings and passes each on at once, so that a program that hangs later has shown what it could. */
export class Report {
	readonly findings: Finding[] = [];
	/** Tells what the program is asked for next. If it never comes back from that, this is what is known. */
	readonly doing: (what: string) => void;
	readonly #pass: (finding: Finding) => void;
	#cause: Failure | undefined;

	constructor(pass: (finding: Finding) => void, doing: (what: string) => void = () => undefined) {
		this.#pass = pass;
		this.doing = doing;
	}

	right(text: string): void {
		this.#add({ verdict: "right", text });
	}

	/** From now on the first wrong finding is this one, and ends the check: all that is missing is missing because of it. */
	blame(cause: Failure): void {
		this.#cause = cause;
	}

	wrong(text: string, hint?: string): void {
		const cause = this.#cause;
		if (cause !== undefined) {
			this.#cause = undefined;
			this.fail(cause.text, cause.hint);
		}
		this.#add({ verdict: "wrong", text, ...(hint === undefined ? {} : { hint }) });
	}

	/** This host cannot check `text`. */
	open(text: string): void {
		this.#add({ verdict: "open", text });
	}

	/** Ends the check with a wrong finding. */
	fail(text: string, hint?: string): never {
		this.wrong(text, hint);
		throw new CheckEnded(text);
	}

	/** One of two findings. @returns `holds` */
	expect(holds: boolean, right: string, wrong: string, hint?: string): boolean {
		if (holds) this.right(right);
		else this.wrong(wrong, hint);
		return holds;
	}

	/** As `expect`, but nothing more is checked when it does not hold. */
	must(holds: boolean, right: string, wrong: string, hint?: string): void {
		if (!this.expect(holds, right, wrong, hint)) throw new CheckEnded(wrong);
	}

	#add(finding: Finding): void {
		this.findings.push(finding);
		this.#pass(finding);
	}
}

/** "0x3f8". */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** `"hello"`, with control characters escaped and a long text cut. */
export function quote(text: string): string {
	return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

/** "1 byte", "3 bytes". */
export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;

/*
 * A finding: a likely reason in words, what shows it, and what to do. A rule looks at a story and finds one, or none.
 */
import type { Story } from "./story.ts";

export interface Finding {
	/** A stable name: "wrong-root". */
	readonly cause: string;
	/** One sentence: what is wrong. */
	readonly what: string;
	/** What shows it: events, lines, registers. */
	readonly because: readonly string[];
	/** What to do, as a command. */
	readonly hint?: string;
}

/** Names addresses of the guest's kernel: "start_kernel+0x12", or the number. */
export type NameAddress = (address: string) => string;

/** Where names are from. */
export interface NamesSource {
	/** The file with the symbols, if there is one. */
	readonly file?: string;
	/** How far the kernel has moved from where its symbols say, in hexadecimal; missing when addresses stay numbers. */
	readonly slide?: string;
	/** What shows where the kernel is, or why addresses stay numbers. */
	readonly because: string;
}

/** Names for one story. */
export interface KernelNames {
	readonly name: NameAddress;
	readonly source: NamesSource;
}

export interface RuleInput {
	readonly story: Story;
	readonly name: NameAddress;
}

export type Rule = (input: RuleInput) => Finding | undefined;

export function hex(value: number): string {
	return `0x${value.toString(16)}`;
}

/** "1 chain", "2 chains" */
export function counted(count: number, what: string): string {
	return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/*
 * What a lab is for `tsvmm learn`: its text and start file are in docs/labs, its check is one file of src/learn/labs.
 */
import type { Attempt } from "./attempt.ts";

export interface Lab {
	/** From 1. */
	readonly number: number;
	/** Name of its directory in docs/labs, after the number: "hello". */
	readonly name: string;
	readonly title: string;
	/** It runs guests: /dev/kvm must be there. */
	readonly needsKvm: boolean;
	/** It boots Linux: a host that cannot do so checks it in the lab. */
	readonly bootsLinux?: true;
	/** Judges the program of an attempt by what it does. Runs in a process of its own. */
	check(attempt: Attempt): Promise<void>;
}

/** "01-hello", the name of its directory. */
export const labDirectory = ({ number, name }: Lab): string => `${String(number).padStart(2, "0")}-${name}`;

/** "lab-01-hello.ts", the student's file. */
export const programName = (lab: Lab): string => `lab-${labDirectory(lab)}.ts`;

/*
 * A line of Linux' log with its stamp (printk.time):
 *
 *     [    0.123456][    T1] Memory: 94320K/131072K available (...)     seconds of the kernel's clock
 */

const STAMPED = /^\[ *(\d{1,9}\.\d{6})\](?:\[ *[TC]\d+\])? (.*)$/;

/** A line, taken apart. */
export interface PrintkLine {
	/** Of the kernel's clock. */
	readonly seconds: number;
	readonly message: string;
}

/** @returns undefined when the line has no stamp */
export function readPrintk(line: string): PrintkLine | undefined {
	const [, seconds, message] = STAMPED.exec(line) ?? [];
	return seconds === undefined ? undefined : { seconds: Number(seconds), message: message! };
}

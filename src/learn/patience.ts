/*
 * How long a check waits for a student's program. TSVMM_LEARN_SECONDS is for slow hosts.
 */

/* The lab's processor is emulated. */
const USUAL_SECONDS = process.env.TSVMM_LAB === "1" ? 60 : 10;

/** For one call of the program, in seconds. */
export function patienceSeconds(): number {
	const given = Number(process.env.TSVMM_LEARN_SECONDS);
	return given > 0 ? given : USUAL_SECONDS;
}

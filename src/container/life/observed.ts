/*
 * Who looks on at a container's machine, and what goes wrong in it on purpose: as config.json keeps it, so that each start
 * has it, and as the machine's configuration has it.
 */
import { FAULT_EFFECTS, Faults } from "../../base/faults.ts";
import * as z from "../../base/schema.ts";
import type { Observation } from "../run.ts";

const Rule = z.object({
	device: z.string(),
	event: z.string(),
	effect: z.enum(FAULT_EFFECTS),
	delayMs: z.optional(z.number()),
	probability: z.optional(z.number()),
});

export const Observed = z.object({
	/** Each start writes them anew. Absolute. */
	traceFiles: z.optional(z.array(z.object({ path: z.string(), events: z.optional(z.array(z.string())) }))),
	/** Each start has the same ones, by the same seed. */
	faults: z.optional(z.object({ rules: z.array(Rule), seed: z.number() })),
});
export type Observed = z.infer<typeof Observed>;

/** For the machine of one start. */
export function observation({ traceFiles, faults }: Observed = {}): Observation {
	return { traceFiles, faults: faults && new Faults(faults.rules, faults) };
}

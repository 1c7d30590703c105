/*
 * JSON as Go programs write it, for the schemas of config.json.
 */
import * as z from "zod";

/** A Go program writes null for a list or map that it does not have. */
export const list = <T extends z.ZodType>(item: T) =>
	z
		.array(item)
		.nullish()
		.transform((value) => value ?? []);
export const map = z
	.record(z.string(), z.string())
	.nullish()
	.transform((value) => value ?? {});
export const optional = <T extends z.ZodType>(type: T) => type.nullish().transform((value) => value ?? undefined);

/*
 * JSON as Go programs write it, for the schemas of config.json.
 */
import * as z from "../base/schema.ts";

/** A Go program writes null for a list or map that it does not have. */
export const list = <T extends z.ZodType>(item: T) =>
	z.pipe(
		z.nullish(z.array(item)),
		z.transform((value) => value ?? []),
	);
export const map = z.pipe(
	z.nullish(z.record(z.string(), z.string())),
	z.transform((value) => value ?? {}),
);
export const optional = <T extends z.ZodType>(type: T) =>
	z.pipe(
		z.nullish(type),
		z.transform((value) => value ?? undefined),
	);

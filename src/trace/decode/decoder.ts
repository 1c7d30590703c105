/*
 * The contract of a decoder: what the chains of one type of virtio device mean. The guest wrote them, so a decoder
 * checks lengths, and gives undefined for what makes no sense.
 */
import type { ObservedChain } from "../../base/observer.ts";
import type { TraceRequest } from "../request.ts";

/** A chain as a decoder sees it. */
export interface DecoderInput {
	readonly queue: number;
	readonly chain: ObservedChain;
	/** Bytes that the device has written; 0 as long as it has the chain. */
	readonly written: number;
}

export interface Decoder {
	/** The queue's name in the specification. */
	queueName(queue: number, queues: number): string | undefined;
	/** What a chain asks for, when the device takes it. */
	request?(input: DecoderInput): TraceRequest | undefined;
	/** What the device has written. */
	answer?(input: DecoderInput): TraceRequest | undefined;
}

/** The name of `value` in a table of constants that begin with `prefix`, or its number. */
export function nameOf(table: ReadonlyMap<number, string>, value: number, prefix: string): string {
	return table.get(value) ?? `${prefix}${value}`;
}

/** A table from a module's constants: those whose names begin with `prefix`. */
export function namesOf(constants: object, prefix: string): ReadonlyMap<number, string> {
	return new Map(
		Object.entries(constants).flatMap(([name, value]) =>
			name.startsWith(prefix) && typeof value === "number" ? [[value, name] as const] : [],
		),
	);
}

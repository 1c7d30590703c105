/*
 * Saved state (base/state.ts) as text that a person can read: JSON, with 64-bit numbers and bytes as objects of one field.
 *
 *     {"status": 15, "driverFeatures": {"$u64": "13000000000"}, "config": {"$bytes": "AAAAAA=="}}
 *
 * No state has a field that begins with "$".
 */
import { SnapshotError } from "../base/errors.ts";
import type { StateValue } from "../base/state.ts";

/** A state as text. */
export function stateText(state: StateValue): string {
	return JSON.stringify(state, (_field, value: unknown) => {
		if (typeof value === "bigint") return { $u64: value.toString() };
		if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
		return value;
	});
}

/** What `stateText` gave; its fields are not checked. @throws SnapshotError ERR_SNAPSHOT_FORMAT */
export function parseState(text: string): unknown {
	try {
		return JSON.parse(text, (_field, value: unknown) => revive(value));
	} catch (cause) {
		throw new SnapshotError("ERR_SNAPSHOT_FORMAT", `Cannot read a saved state: ${(cause as Error).message}`, { cause });
	}
}

function revive(value: unknown): unknown {
	if (typeof value !== "object" || value === null) return value;
	const { $u64: number, $bytes: bytes } = value as { $u64?: unknown; $bytes?: unknown };
	if (typeof number === "string" && /^\d{1,20}$/.test(number)) return BigInt(number);
	if (typeof bytes === "string") return Uint8Array.from(Buffer.from(bytes, "base64"));
	return value;
}

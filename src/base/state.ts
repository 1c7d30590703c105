/*
 * The state of devices as plain data, for snapshots. `save` returns numbers, bigints, booleans, strings, Uint8Arrays,
 * and lists and objects of them, which structuredClone and any file format can carry. Each device's state names its
 * version. A saved state may be damaged or forged, so `restore` reads it through a StateReader, which checks every
 * field. A restore reads everything before it changes anything. So it succeeds, or it throws and nothing has changed.
 */
import { SnapshotError } from "./errors.ts";

/** A value in a state. */
export type StateValue = number | bigint | boolean | string | Uint8Array | readonly StateValue[] | StateObject;

/** Fields by name. */
export interface StateObject {
	/** A field by its name. */
	readonly [field: string]: StateValue;
}

/** The result of a device's `save`. */
export type SavedState = StateObject & { readonly version: number };

/** An object whose state can move to another object of the same kind. */
export interface Stateful {
	/** A copy of all that a later `restore` needs. It does not change later. */
	save(): SavedState;
	/**
	 * Continues from `state` of the object that was saved. Only for a fresh object, before its guest runs.
	 *
	 * @throws SnapshotError ERR_STATE_*; then nothing has changed
	 */
	restore(state: unknown): void;
}

/** Reads and checks the fields of one object. A missing or wrong one throws ERR_STATE_FORMAT. */
export class StateReader {
	/** The path of this object, for messages: "serial", "virtio-net0.queues[1]". */
	readonly where: string;
	readonly #fields: Readonly<Record<string, unknown>>;

	/** The object itself, for another reader. */
	get value(): unknown {
		return this.#fields;
	}

	/** @throws SnapshotError ERR_STATE_FORMAT when `state` is no plain object */
	constructor(where: string, state: unknown) {
		const plain = typeof state === "object" && state !== null && !Array.isArray(state) && !ArrayBuffer.isView(state);
		if (!plain) throw malformed(where, `${describe(state)} is no object`);
		this.where = where;
		this.#fields = state as Record<string, unknown>;
	}

	/**
	 * Checks the field `version`.
	 *
	 * @throws SnapshotError ERR_STATE_VERSION when it is not `known`
	 */
	version(known: number): this {
		const found = this.integer("version", 0, 0xffff_ffff);
		if (found === known) return this;
		const message = `Cannot restore ${this.where}: its state has version ${found}, this tsvmm reads version ${known}`;
		throw new SnapshotError("ERR_STATE_VERSION", message);
	}

	/** Whether there is such a field. */
	has(field: string): boolean {
		return Object.hasOwn(this.#fields, field);
	}

	/** A whole number from `least` to `most`. */
	integer(field: string, least: number, most: number): number {
		const value = this.#take(field);
		if (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most) {
			return value + 0; /* -0 becomes 0 */
		}
		throw this.#wrong(field, value, `a whole number from ${least} to ${most}`);
	}

	/** A whole number of 8 bits. */
	u8(field: string): number {
		return this.integer(field, 0, 0xff);
	}

	/** A whole number of 16 bits. */
	u16(field: string): number {
		return this.integer(field, 0, 0xffff);
	}

	/** A whole number of 32 bits. */
	u32(field: string): number {
		return this.integer(field, 0, 0xffff_ffff);
	}

	/** A bigint of 64 bits. */
	u64(field: string): bigint {
		const value = this.#take(field);
		if (typeof value === "bigint" && BigInt.asUintN(64, value) === value) return value;
		throw this.#wrong(field, value, "a bigint of 64 bits");
	}

	/** True or false. */
	boolean(field: string): boolean {
		const value = this.#take(field);
		if (typeof value === "boolean") return value;
		throw this.#wrong(field, value, "true or false");
	}

	/** A string of at most `most` UTF-16 units. */
	string(field: string, most: number): string {
		const value = this.#take(field);
		if (typeof value === "string" && value.length <= most) return value;
		throw this.#wrong(field, value, `a string of at most ${most} characters`);
	}

	/** A copy of `least` to `most` bytes; exactly `least` when `most` is missing. */
	bytes(field: string, least: number, most = least): Uint8Array {
		const value = this.#take(field);
		if (value instanceof Uint8Array && value.length >= least && value.length <= most) return new Uint8Array(value);
		throw this.#wrong(field, value, least === most ? `${least} bytes` : `${least} to ${most} bytes`);
	}

	/** An object inside this one. */
	object(field: string): StateReader {
		return new StateReader(`${this.where}.${field}`, this.#take(field));
	}

	/** A list of `least` to `most` objects; exactly `least` when `most` is missing. */
	list(field: string, least: number, most = least): StateReader[] {
		const value = this.#take(field);
		if (!Array.isArray(value) || value.length < least || value.length > most) {
			throw this.#wrong(field, value, least === most ? `a list of ${least}` : `a list of ${least} to ${most}`);
		}
		return Array.from(value, (item, i) => new StateReader(`${this.where}.${field}[${i}]`, item));
	}

	/** The error for a fault that no single field shows. `wrong` describes it. */
	refuse(wrong: string): SnapshotError {
		return malformed(this.where, wrong);
	}

	/** The error for a sound state that belongs to another kind of object. */
	mismatch(difference: string): SnapshotError {
		return new SnapshotError("ERR_STATE_MISMATCH", `Cannot restore ${this.where}: ${difference}`);
	}

	#take(field: string): unknown {
		if (!Object.hasOwn(this.#fields, field)) throw malformed(this.where, `"${field}" is missing`);
		return this.#fields[field];
	}

	#wrong(field: string, value: unknown, wanted: string): SnapshotError {
		return malformed(this.where, `"${field}" is ${describe(value)} and not ${wanted}`);
	}
}

function malformed(where: string, found: string): SnapshotError {
	return new SnapshotError("ERR_STATE_FORMAT", `Cannot restore ${where}: ${found}`);
}

/** Describes a value of any size in a few words. */
function describe(value: unknown): string {
	if (Array.isArray(value)) return `a list of ${value.length}`;
	if (value instanceof Uint8Array) return `${value.length} bytes`;
	if (typeof value === "string")
		return value.length > 32 ? `a string of ${value.length} characters` : JSON.stringify(value);
	if (typeof value === "number" || typeof value === "boolean") return String(value);
	if (typeof value === "bigint")
		return BigInt.asUintN(64, value) === value ? `${value}n` : "a bigint of more than 64 bits";
	return value === null ? "null" : typeof value === "object" ? "an object" : typeof value;
}

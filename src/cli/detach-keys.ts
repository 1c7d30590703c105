/*
 * --detach-keys: a sequence of keys on a terminal that leaves the process alone, and the process goes on. Without the flag
 * there is none, and the process gets every key.
 */
import { Transform, type TransformCallback } from "node:stream";
import { UsageError } from "../base/errors.ts";

const CONTROLS = "@abcdefghijklmnopqrstuvwxyz[\\]^_";

/** For the flag of all commands that have it. */
export const DETACH_KEYS_FLAG = ["--detach-keys <keys>", "keys that detach from a terminal: ctrl-p,ctrl-q"] as const;

/**
 * Reads Docker's syntax: characters and ctrl-X, between commas.
 *
 * @returns the bytes that a terminal sends for them
 * @throws UsageError ERR_DETACH_KEYS
 */
export function readDetachKeys(text: string): Buffer {
	const bytes = text.split(",").map((key) => {
		if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0);
		const code = /^ctrl-.$/i.test(key) ? CONTROLS.indexOf(key.slice(5).toLowerCase()) : -1;
		if (code >= 0) return code;
		throw new UsageError("ERR_DETACH_KEYS", `Cannot detach by "${text}": "${key}" is no key`, {
			hint: "Write characters and ctrl-X with commas between them, as in ctrl-p,ctrl-q",
		});
	});
	return Buffer.from(bytes);
}

/** Passes input on, until the keys are in it. What may be their beginning is held back until it is not. */
export class DetachKeys extends Transform {
	readonly #keys: Buffer;
	readonly #onDetach: () => void;
	#held: number[] = [];
	#detached = false;

	/** @param onDetach called once; nothing is passed on after that */
	constructor(keys: Buffer, onDetach: () => void) {
		super();
		this.#keys = keys;
		this.#onDetach = onDetach;
	}

	override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
		const passed: number[] = [];
		for (const byte of chunk) {
			if (this.#detached) break;
			this.#held.push(byte);
			while (!this.#held.every((held, i) => held === this.#keys[i])) passed.push(this.#held.shift()!);
			this.#detached = this.#held.length === this.#keys.length;
		}
		if (passed.length > 0) this.push(Buffer.from(passed));
		if (this.#detached && this.#held.length > 0) {
			this.#held = [];
			this.#onDetach();
		}
		done();
	}

	override _flush(done: TransformCallback): void {
		if (this.#held.length > 0) this.push(Buffer.from(this.#held));
		done();
	}
}

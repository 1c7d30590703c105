/*
 * The terminal that a guest's console is on: raw mode, restored whatever ends the process.
 */
import { HostError } from "../base/errors.ts";
import { native } from "./native.ts";

/**
 * Puts the terminal `fd` into raw mode; the mode it had comes back by `restoreTerminal`, at exit or on a fatal signal.
 *
 * @throws HostError ERR_TERMINAL when `fd` is not a terminal; ERR_NATIVE_MISSING, ERR_NATIVE_ABI
 */
export function rawTerminal(fd: number): void {
	const { terminalRaw } = native();
	try {
		terminalRaw(fd);
	} catch (cause) {
		throw new HostError("ERR_TERMINAL", `Cannot make the terminal raw: ${(cause as Error).message}`, { cause });
	}
}

/** Gives the terminal its mode back; does nothing when it is not raw. */
export function restoreTerminal(): void {
	native().terminalRestore();
}

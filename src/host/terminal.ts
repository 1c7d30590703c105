/*
 * Raw mode of the terminal that shows a guest's console. It is always restored when the process ends.
 */
import { HostError } from "../base/errors.ts";
import { native } from "./native.ts";

/**
 * Puts the terminal `fd` into raw mode. `restoreTerminal`, an exit or a fatal signal restores the old mode.
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

/** Restores the terminal's mode, if it is raw. */
export function restoreTerminal(): void {
	native().terminalRestore();
}

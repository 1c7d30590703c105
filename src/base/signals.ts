/*
 * Signals of processes: the exit status that a shell gives for one, and which are passed on to a payload.
 */
import { constants } from "node:os";
import { TsvmmError } from "./errors.ts";

/** A shell's exit status for a process that a signal has ended: 128 + its number. */
export function signalStatus(signal: number): number {
	return 128 + signal;
}

/** "SIGINT" for 2; "signal 34" for one that has no name. */
function signalName(signal: number): string {
	const known = Object.entries(constants.signals).find(([, number]) => number === signal);
	return known?.[0] ?? `signal ${signal}`;
}

/** A signal has ended the work of this process (ERR_INTERRUPTED); the exit status is 128 + its number. */
export class InterruptedError extends TsvmmError {
	override readonly exitStatus: number;

	/** @param attempt what was interrupted: "build the kernel" */
	constructor(attempt: string, signal: number) {
		super("ERR_INTERRUPTED", `Cannot ${attempt}: interrupted by ${signalName(signal)}`);
		this.exitStatus = signalStatus(signal);
	}
}

/**
 * The signals that are passed on to a payload: those that `docker run --sig-proxy` forwards and that this process can
 * take. Not forwarded are this process's own faults (SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: with a handler
 * the fault would repeat for ever), SIGTTIN and SIGTTOU (the stopped read or write would be repeated for ever), and the
 * real-time signals, which Node cannot take. Docker does not forward SIGCHLD, SIGURG and SIGPIPE either.
 */
export const FORWARDED_SIGNALS = [
	"SIGHUP",
	"SIGINT",
	"SIGQUIT",
	"SIGABRT",
	"SIGUSR1",
	"SIGUSR2",
	"SIGALRM",
	"SIGTERM",
	"SIGSTKFLT",
	"SIGCONT",
	"SIGTSTP",
	"SIGXCPU",
	"SIGXFSZ",
	"SIGVTALRM",
	"SIGPROF",
	"SIGIO",
	"SIGPWR",
] as const;

/** "SIGTERM", "TERM" or "15"; undefined for anything else. */
export function signalNumber(text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	if (/^[0-9]{1,2}$/.test(text)) return Number(text);
	const signals: Readonly<Record<string, number>> = constants.signals;
	return signals[text] ?? signals[`SIG${text}`];
}

/*
 * Signals of processes: what a shell calls their end, and which are passed on to a payload.
 */

/** The exit status of a process that a signal has ended, as a shell has it: 128 + its number. */
export function signalStatus(signal: number): number {
	return 128 + signal;
}

/**
 * The signals that are passed on to a payload: those that `docker run --sig-proxy` forwards and that this process can
 * take. Missing are its own faults (SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: with a handler a crash would go
 * on for ever), SIGTTIN and SIGTTOU (a read or write that they stop would be tried again at once, for ever), and the
 * real-time signals, which Node cannot take. SIGCHLD, SIGURG and SIGPIPE are not forwarded by Docker either.
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

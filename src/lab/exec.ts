/*
 * Runs a program in the lab as if it were this process: it has our standard streams and our terminal, and gets our
 * signals. Its exit status becomes ours.
 */
import { constants } from "node:os";
import { exitStatus, type Session } from "../agent/session.ts";
import { HostError } from "../base/errors.ts";
import { attach, type ForegroundStdio, ownStdio } from "../host/foreground.ts";
import type { Lab } from "./lab.ts";
import { LabPaths } from "./paths.ts";

export interface ForegroundOptions {
	cwd?: string;
	env?: Record<string, string>;
	/** Gives the program a terminal. Its size follows ours when we have one. */
	tty: boolean;
	/** Passes our standard input on. */
	stdin: boolean;
}

const { SIGINT, SIGHUP, SIGQUIT, SIGPIPE } = constants.signals;
const FROM_TERMINAL: ReadonlySet<number> = new Set([SIGINT, SIGHUP, SIGQUIT]);

/** Runs `argv` and returns its exit status. @throws ExecError when it cannot be run; HostError ERR_LAB_GONE */
export async function exec(lab: Lab, argv: readonly string[], options: ForegroundOptions): Promise<number> {
	const { cwd, env, tty, stdin } = options;
	const stdio = ownStdio({ stdin, tty });
	const { terminal } = stdio;
	try {
		const session = await lab.spawn(argv, {
			...(cwd === undefined ? {} : { cwd }),
			...(env === undefined ? {} : { env }),
			...(terminal === undefined ? {} : { tty: terminal.size() }),
		});
		if (!stdin) session.stdin.end();
		/* A terminal sends these signals to the whole process group in its foreground. */
		const stopSignals = stdio.onSignal((signal) => session.signal(signal, FROM_TERMINAL.has(signal)));
		try {
			terminal?.raw();
			return await attached(lab, session, stdio);
		} finally {
			terminal?.restore();
			stopSignals();
		}
	} finally {
		stdio.close();
	}
}

async function attached(lab: Lab, session: Session, stdio: ForegroundStdio): Promise<number> {
	try {
		return exitStatus(await attach(session, stdio, () => session.signal(SIGPIPE)));
	} catch (cause) {
		const why = new LabPaths(lab.name).readBroken() ?? "has ended";
		throw new HostError("ERR_LAB_GONE", `Cannot go on in the lab: it ${why}`, {
			cause,
			hint: "Run the command again: that brings the lab up, but what ran in it is lost",
		});
	}
}

/*
 * A program in the lab in place of this process: the same standard streams, byte for byte, the same terminal, the same
 * signals, and its exit status as ours.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Session } from "../agent/session.ts";
import { HostError } from "../base/errors.ts";
import { FORWARDED_SIGNALS } from "../base/signals.ts";
import { rawTerminal, restoreTerminal } from "../host/terminal.ts";
import { exitStatus } from "./collect.ts";
import type { Lab } from "./lab.ts";
import { LabPaths } from "./paths.ts";

export interface ForegroundOptions {
	cwd?: string;
	env?: Record<string, string>;
	/** A terminal for the program; the size follows ours when we have one. */
	tty: boolean;
	/** Whether standard input is passed on. */
	stdin: boolean;
}

const FROM_TERMINAL: ReadonlySet<string> = new Set(["SIGINT", "SIGHUP", "SIGQUIT"]);

/** Asked of the kernel each time: Node's own idea of it may be older than our SIGWINCH. */
function terminalSize(): { columns: number; rows: number } {
	const terminal = [process.stdout, process.stderr].find((stream) => stream.isTTY);
	const [columns, rows] = terminal?.getWindowSize() ?? [80, 24];
	return { columns, rows };
}

/** Passes output on. When our reader has gone away, the program learns it as it would from a pipe of its own. */
async function copy(session: Session, from: Readable, to: NodeJS.WritableStream): Promise<void> {
	try {
		await pipeline(from, to, { end: false });
	} catch {
		session.signal(constants.signals.SIGPIPE);
	}
}

/** Runs `argv` and returns its exit status. @throws ExecError when it cannot be run; HostError ERR_LAB_GONE */
export async function exec(lab: Lab, argv: readonly string[], options: ForegroundOptions): Promise<number> {
	const { cwd, env, tty, stdin } = options;
	const session = await lab.spawn(argv, {
		...(cwd === undefined ? {} : { cwd }),
		...(env === undefined ? {} : { env }),
		...(tty ? { tty: terminalSize() } : {}),
	});
	const raw = tty && stdin && process.stdin.isTTY === true;
	// What a terminal sends, it sends to everybody in front of it.
	const forward = (signal: NodeJS.Signals) => session.signal(constants.signals[signal], FROM_TERMINAL.has(signal));
	const resize = () => {
		const { columns, rows } = terminalSize();
		session.resize(columns, rows);
	};
	const forwarded = tty ? FORWARDED_SIGNALS : [...FORWARDED_SIGNALS, "SIGWINCH" as const];
	for (const signal of forwarded) process.on(signal, forward);
	if (tty) process.on("SIGWINCH", resize);
	if (raw) rawTerminal(0);
	try {
		return await passStreams(lab, session, stdin);
	} finally {
		if (raw) restoreTerminal();
		process.off("SIGWINCH", resize);
		for (const signal of forwarded) process.off(signal, forward);
		// A read that still waits on standard input would keep this process alive.
		if (stdin) {
			process.stdin.unpipe();
			process.stdin.destroy();
		}
	}
}

async function passStreams(lab: Lab, session: Session, stdin: boolean): Promise<number> {
	session.stdin.on("error", () => undefined);
	if (stdin) process.stdin.pipe(session.stdin);
	else session.stdin.end();
	const output = [copy(session, session.stdout, process.stdout), copy(session, session.stderr, process.stderr)];
	try {
		const status = exitStatus(await session.exit);
		await Promise.all(output);
		return status;
	} catch (cause) {
		const why = new LabPaths(lab.name).readBroken() ?? "has ended";
		throw new HostError("ERR_LAB_GONE", `Cannot go on in the lab: it ${why}`, {
			cause,
			hint: "The next command brings it up again; what was running in it is lost",
		});
	}
}

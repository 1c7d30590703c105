/*
 * A process in a container's machine, with this process's streams or a terminal that its caller has asked for.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { ExitStatus, Session } from "../agent/session.ts";
import { attach, type ForegroundStdio, ownStdio } from "../host/foreground.ts";
import { openOutput } from "../host/output.ts";
import { sendTerminal, type Terminal } from "../host/pty.ts";

/** This process's side of a payload. */
export interface PayloadStdio {
	readonly stdio: ForegroundStdio;
	/** The size of its terminal, if it has one. */
	readonly size: { columns: number; rows: number } | undefined;
	close(): void;
}

/** @param consoleSocket where the master of the payload's terminal goes; its own terminal when missing */
export function payloadStdio(terminal: boolean, consoleSocket: string | undefined): PayloadStdio {
	if (terminal && consoleSocket !== undefined) return ofTerminal(sendTerminal(consoleSocket));
	const opened = [openOutput(1), openOutput(2)];
	const [stdout, stderr] = opened;
	const own = ownStdio({ stdin: true, tty: terminal, stdout, stderr });
	return {
		stdio: own,
		size: own.terminal?.size(),
		close: () => {
			own.close();
			for (const stream of opened) stream?.destroy();
		},
	};
}

function ofTerminal(terminal: Terminal): PayloadStdio {
	const { input, output } = terminal;
	return {
		stdio: {
			stdin: input as Readable,
			stdout: output,
			stderr: output,
			terminal: {
				size: () => terminal.size(),
				raw: () => undefined,
				restore: () => undefined,
				onResize: (handler) => {
					process.on("SIGWINCH", handler);
					return () => process.off("SIGWINCH", handler);
				},
			},
			onSignal: () => () => undefined,
		},
		size: terminal.size(),
		close: () => terminal.close(),
	};
}

/** Carries a payload's streams until it has ended and all its output is written. */
export async function carry(session: Session, { stdio }: PayloadStdio): Promise<ExitStatus> {
	const { terminal } = stdio;
	const hangUp = () => session.signal(constants.signals.SIGHUP);
	if (terminal !== undefined) process.on("SIGHUP", hangUp);
	try {
		terminal?.raw();
		if (terminal !== undefined) {
			const { columns, rows } = terminal.size();
			session.resize(columns, rows);
		}
		return await attach(session, stdio, () => session.signal(constants.signals.SIGPIPE, true));
	} finally {
		terminal?.restore();
		process.off("SIGHUP", hangUp);
	}
}

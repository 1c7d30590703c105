/*
 * The whole of a program in the lab: its input given, its output collected, its end awaited.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { ExitStatus, Session } from "../agent/session.ts";
import { HostError } from "../base/errors.ts";

export interface ExecResult {
	/** Exit status, or 128 + signal number. */
	status: number;
	stdout: Buffer;
	stderr: Buffer;
}

/** A shell's number for how a process ended. */
export function exitStatus(exit: ExitStatus): number {
	return "code" in exit ? exit.code : 128 + exit.signal;
}

async function bytes(stream: Readable): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

/**
 * Runs a session to its end.
 *
 * @param timeoutMs after so long its process group is killed
 * @throws HostError ERR_LAB_TIMEOUT
 */
export async function collect(
	session: Session,
	input: string | Uint8Array | undefined,
	timeoutMs: number | undefined,
): Promise<ExecResult> {
	let late = false;
	const timer =
		timeoutMs === undefined
			? undefined
			: setTimeout(() => {
					late = true;
					session.signal(constants.signals.SIGKILL, true);
					session.close();
				}, timeoutMs);
	try {
		session.stdin.on("error", () => undefined);
		session.stdin.end(input);
		const [stdout, stderr, exit] = await Promise.all([bytes(session.stdout), bytes(session.stderr), session.exit]);
		if (late) {
			throw new HostError(
				"ERR_LAB_TIMEOUT",
				`Cannot wait for a program in the lab any longer: ${timeoutMs} ms have passed`,
			);
		}
		return { status: exitStatus(exit), stdout, stderr };
	} finally {
		clearTimeout(timer);
	}
}

/*
 * Runs a program in the lab to its end: gives it its input and collects its output.
 */
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { exitStatus, type Session } from "../agent/session.ts";
import { HostError } from "../base/errors.ts";

export interface ExecResult {
	/** Exit status, or 128 + signal number. */
	status: number;
	stdout: Buffer;
	stderr: Buffer;
}

async function bytes(stream: Readable): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

/**
 * Waits for `work`, but no longer than `timeoutMs`.
 *
 * @param late called when the time is over; it ends what still runs
 * @throws HostError ERR_LAB_TIMEOUT
 */
export async function within<T>(work: Promise<T>, timeoutMs: number | undefined, late: () => void): Promise<T> {
	if (timeoutMs === undefined) return await work;
	/* After the timeout nobody waits for it, and its failure is no unhandled rejection. */
	work.catch(() => undefined);
	let timer: NodeJS.Timeout | undefined;
	const timeout = new Promise<never>((_resolve, reject) => {
		timer = setTimeout(() => {
			late();
			const after = `${timeoutMs} ms have passed`;
			reject(new HostError("ERR_LAB_TIMEOUT", `Cannot wait for a program in the lab any longer: ${after}`));
		}, timeoutMs);
	});
	try {
		return await Promise.race([work, timeout]);
	} finally {
		clearTimeout(timer);
	}
}

/**
 * Runs a session to its end.
 *
 * @param timeoutMs when it runs longer, its process group is killed
 * @throws HostError ERR_LAB_TIMEOUT
 */
export async function collect(
	session: Session,
	input: string | Uint8Array | undefined,
	timeoutMs: number | undefined,
): Promise<ExecResult> {
	session.stdin.on("error", () => undefined);
	session.stdin.end(input);
	const all = Promise.all([bytes(session.stdout), bytes(session.stderr), session.exit]);
	const [stdout, stderr, exit] = await within(all, timeoutMs, () => {
		session.signal(constants.signals.SIGKILL, true);
		session.close();
	});
	return { status: exitStatus(exit), stdout, stderr };
}

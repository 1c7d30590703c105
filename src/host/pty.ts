/*
 * A pseudoterminal (pty(7)): this process has the slave, and another one gets the master over a unix socket, as OCI
 * runtimes hand over a console.
 */
import { closeSync, constants, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { ReadStream } from "node:tty";
import { explain, HostError } from "../base/errors.ts";
import { close, connectUnix, errnoNameOf, ioctl, sendDescriptor } from "./libc.ts";
import { outputTo } from "./output.ts";
import { rawTerminal } from "./terminal.ts";

const TIOCSPTLCK = 0x4004_5431;
const TIOCGPTN = 0x8004_5430;
const TIOCSCTTY = 0x540e;
const TIOCGWINSZ = 0x5413;

/** The slave of a pseudoterminal, as streams, with the size that the master's owner gives it. */
export interface Terminal {
	readonly input: Readable;
	readonly output: Writable;
	size(): { columns: number; rows: number };
	close(): void;
}

/**
 * Makes a pseudoterminal and sends its master to the socket at `path`. The slave is raw, and it is the controlling
 * terminal of this process if that leads a session: then SIGWINCH tells of new sizes.
 *
 * @throws HostError ERR_TERMINAL
 */
export function sendTerminal(path: string): Terminal {
	const { O_RDWR, O_NOCTTY } = constants;
	let master: number | undefined;
	try {
		master = openSync("/dev/ptmx", O_RDWR | O_NOCTTY);
		const name = slaveOf(master);
		const slave = openSync(name, O_RDWR | O_NOCTTY);
		rawTerminal(slave);
		/* Fails when this process leads no session. */
		ioctl(slave, TIOCSCTTY, 0);
		send(path, master, name);
		return terminalOf(name, slave);
	} catch (cause) {
		if (cause instanceof HostError) throw cause;
		throw new HostError("ERR_TERMINAL", `Cannot open a terminal: ${explain(cause)}`, { cause });
	} finally {
		if (master !== undefined) closeSync(master);
	}
}

function slaveOf(master: number): string {
	const unlocked = ioctl(master, TIOCSPTLCK, new Uint8Array(4));
	const number = new Uint32Array(1);
	const result = unlocked < 0 ? unlocked : ioctl(master, TIOCGPTN, new Uint8Array(number.buffer));
	if (result < 0) throw new HostError("ERR_TERMINAL", `Cannot open a terminal: ${errnoNameOf(-result)}`);
	return `/dev/pts/${number[0]}`;
}

function send(path: string, master: number, name: string): void {
	const socket = connectUnix(path);
	const sent = socket < 0 ? socket : sendDescriptor(socket, master, Buffer.from(name));
	if (socket >= 0) close(socket);
	if (sent < 0) throw new HostError("ERR_TERMINAL", `Cannot send the terminal to ${path}: ${explainErrno(-sent)}`);
}

function explainErrno(errno: number): string {
	return explain(Object.assign(new Error(errnoNameOf(errno)), { code: errnoNameOf(errno) }));
}

function terminalOf(name: string, slave: number): Terminal {
	const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
	const input = new ReadStream(slave);
	/* Node's own stream would wait for the master's reader. */
	const output = outputTo(openSync(name, O_WRONLY | O_NONBLOCK | O_NOCTTY));
	/* EIO: nobody has the master any more. */
	for (const stream of [input, output]) stream.on("error", () => undefined);
	const winsize = new Uint16Array(4);
	return {
		input,
		output,
		size: () => {
			const known = !input.destroyed && ioctl(slave, TIOCGWINSZ, new Uint8Array(winsize.buffer)) >= 0;
			const [rows, columns] = winsize;
			return { columns: (known && columns) || 80, rows: (known && rows) || 24 };
		},
		close: () => {
			input.destroy();
			output.destroy();
		},
	};
}

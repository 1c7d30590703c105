/*
 * A session that an agent holds, for a host that comes later: of a machine that was saved and goes on elsewhere, the agent
 * and its processes are there, and everything on the host is new.
 */
import type { StateReader } from "../base/state.ts";
import type { ExchangeState } from "./exchange.ts";
import { FRAME, KEEPALIVE_SESSION, OUTPUT_WINDOW, STDIN_WINDOW } from "./protocol.ts";

const ROLES = ["main", "kept", "closed"] as const;

/** A session as the agent and its host agree on it while nothing is on the way. */
export interface HeldSession {
	/** Its number at the agent. */
	readonly id: number;
	/** main: its client goes on with it. kept: the process goes on, and nobody reads its output. closed: its client is gone. */
	readonly role: (typeof ROLES)[number];
	readonly exchange: ExchangeState;
}

/** Sessions that were written down. @throws SnapshotError ERR_STATE_FORMAT */
export function readHeldSessions(readers: readonly StateReader[]): HeldSession[] {
	return readers.map((reader) => {
		const name = reader.string("role", 16);
		const role = ROLES.find((one) => one === name);
		if (role === undefined) throw reader.refuse(`its role is "${name}"`);
		const exchange = readExchange(reader.object("exchange"));
		if (role === "main" && !exchange.isStarted) throw reader.refuse("its process had not started");
		return { id: reader.integer("id", 0, KEEPALIVE_SESSION - 1), role, exchange };
	});
}

function readExchange(reader: StateReader): ExchangeState {
	const room = (field: "stdout" | "stderr") =>
		reader.has(field) ? { [field]: reader.integer(field, 0, OUTPUT_WINDOW) } : {};
	return {
		kind: reader.integer("kind", FRAME.HELLO, FRAME.HOLD),
		isOpen: reader.boolean("isOpen"),
		isStarted: reader.boolean("isStarted"),
		isStdinGone: reader.boolean("isStdinGone"),
		isStdinClosed: reader.boolean("isStdinClosed"),
		unread: reader.integer("unread", 0, STDIN_WINDOW),
		...room("stdout"),
		...room("stderr"),
	};
}

/** A session of whose output all was read, and credit was given for it. */
export function whollyRead({ stdout, stderr, ...rest }: ExchangeState): ExchangeState {
	return {
		...rest,
		...(stdout === undefined ? {} : { stdout: OUTPUT_WINDOW }),
		...(stderr === undefined ? {} : { stderr: OUTPUT_WINDOW }),
	};
}

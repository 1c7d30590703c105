/*
 * GDB's server and the inspector of a container's own machine. They are in its supervisor, which has the machine, for the first
 * run of the container's process; the command that has started it is told where they are. It is loaded only for them.
 */
import { GdbServer } from "../../debug/gdb/server.ts";
import type { Machine } from "../../machine/machine.ts";
import type { ShutdownReason } from "../../machine/shutdown-reason.ts";

/** What somebody wants to look at a machine with. */
export interface DebugOptions {
	/** Where GDB attaches: a port of 127.0.0.1 (0 for a free one), or the absolute path of a unix socket. */
	readonly gdb?: number | string | undefined;
	/** The machine boots, and stops before its first instruction until GDB lets it go on. */
	readonly gdbWait?: boolean | undefined;
	/** The inspector's port of 127.0.0.1; 0 for a free one. */
	readonly inspect?: number | undefined;
	/** Says only what somebody must know: the inspector's address. */
	readonly quiet?: boolean | undefined;
}

/** What is open. */
export class Debugged {
	readonly #parts: { close(end?: ShutdownReason): Promise<void> }[] = [];
	#closed: Promise<void> | undefined;

	/**
	 * Opens them for a machine that has not started. They close when it ends.
	 *
	 * @param say tells the command, one line
	 * @throws HostError ERR_GDB_LISTEN, ERR_INSPECT_PORT, ERR_SOCKET, ERR_SOCKET_IN_USE; nothing is open then
	 */
	static async open(machine: Machine, options: DebugOptions, say: (line: string) => void): Promise<Debugged> {
		const debugged = new Debugged();
		try {
			await debugged.#open(machine, options, say);
		} catch (error) {
			await debugged.close();
			throw error;
		}
		void machine.ended.then((end) => debugged.close(end));
		return debugged;
	}

	async #open(machine: Machine, { gdb, gdbWait, inspect, quiet }: DebugOptions, say: (line: string) => void) {
		if (inspect !== undefined) {
			const { watchedInspector } = await import("./watched-inspector.ts");
			const inspector = await watchedInspector(machine, inspect);
			this.#parts.push(inspector);
			say(`tsvmm: inspector at ${inspector.url}`);
		}
		if (gdb === undefined) return;
		const server = await GdbServer.open(gdb, machine);
		this.#parts.push(server);
		if (gdbWait) await machine.pause();
		if (!quiet) say(`tsvmm: gdb can attach: target remote ${server.target}`);
	}

	/** Frees ports and sockets. A second call waits for the first. */
	async close(end?: ShutdownReason): Promise<void> {
		this.#closed ??= Promise.all(this.#parts.map((part) => part.close(end))).then(() => undefined);
		await this.#closed;
	}
}

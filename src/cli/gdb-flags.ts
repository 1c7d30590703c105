/*
 * The flags of a machine's GDB server, for `boot` and `snapshot restore`.
 */
import type { Command } from "commander";
import type { PortForward } from "../backends/passt-ports.ts";
import { UsageError } from "../base/errors.ts";
import type { GdbAddress, GdbServer } from "../debug/gdb/server.ts";
import type { Machine } from "../machine/machine.ts";

/** As commander gives them. */
export interface GdbFlags {
	gdb?: string;
	gdbWait?: boolean;
}

const HOST = "127.0.0.1";

export function addGdbFlags(command: Command): Command {
	return command
		.option("--gdb <port|path>", "let gdb attach: a port of 127.0.0.1, or a unix socket (docs/debugging.md)")
		.option("--gdb-wait", "stop before the first instruction, until gdb lets it go on");
}

/** Where the server listens, "1234" or "vm.gdb"; undefined for none. @throws UsageError ERR_OPTION_GDB */
export function gdbAddress({ gdb, gdbWait = false }: GdbFlags): GdbAddress | undefined {
	if (gdb === undefined) {
		if (!gdbWait) return undefined;
		throw new UsageError("ERR_OPTION_GDB", "Cannot wait for gdb: --gdb says where it attaches, and is missing");
	}
	if (!/^\d+$/.test(gdb)) {
		if (gdb !== "") return gdb;
		throw new UsageError("ERR_OPTION_GDB", "Cannot let gdb attach: neither a port nor a path was given");
	}
	const port = Number(gdb);
	if (port <= 65535) return port;
	throw new UsageError("ERR_OPTION_GDB", `Cannot let gdb attach at port ${gdb}: ports end at 65535`);
}

/** The port to publish when the machine is in the lab. */
export function gdbPorts(flags: GdbFlags): PortForward[] {
	const address = gdbAddress(flags);
	if (typeof address !== "number" || address === 0) return [];
	return [{ hostAddress: HOST, hostPort: address, guestPort: address, protocol: "tcp" }];
}

/**
 * Opens the server for a machine that has not started. With --gdb-wait the machine does not start until gdb says so.
 *
 * @throws HostError ERR_GDB_LISTEN, ERR_SOCKET, ERR_SOCKET_IN_USE
 */
export async function openGdb(flags: GdbFlags & { quiet: boolean }, machine: Machine): Promise<GdbServer | undefined> {
	const address = gdbAddress(flags);
	if (address === undefined) return undefined;
	/* Only then it is loaded. */
	const { GdbServer } = await import("../debug/gdb/server.ts");
	const server = await GdbServer.open(address, machine);
	if (flags.gdbWait === true) await machine.pause();
	if (!flags.quiet) process.stderr.write(`tsvmm: gdb can attach: target remote ${server.target}\n`);
	return server;
}

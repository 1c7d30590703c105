/*
 * --gdb, --gdb-wait and --inspect of `run`: GDB's server and the inspector of the container's own machine, in its supervisor
 * (container/life/debugged.ts). They are the command's, and not kept with the container.
 */
import { createServer } from "node:net";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { PortForward } from "../../backends/passt-ports.ts";
import { errnoName, HostError } from "../../base/errors.ts";
import type { DebugOptions } from "../../container/life/debugged.ts";
import { addGdbFlags, type GdbFlags, gdbAddress, gdbPorts } from "../gdb-flags.ts";
import { inspectInLab, parseInspect } from "../inspect-flag.ts";
import { type JoinRequest, joinRefusal } from "./join-flags.ts";

export interface DebugFlags extends GdbFlags {
	inspect?: boolean;
	inspectPort?: number;
}

export function addDebugFlags(command: Command): Command {
	return addGdbFlags(command)
		.option("--inspect", "serve a page on 127.0.0.1 that shows the machine at work", false)
		.addOption(
			new Option("--inspect-port <port>", "as --inspect, at this port")
				.argParser(parseInspect)
				.implies({ inspect: true }),
		);
}

/**
 * @param join the machine of others that the container joins
 * @throws UsageError ERR_OPTION_GDB, ERR_RUN_JOIN
 */
export function readDebug(
	flags: DebugFlags & { quiet: boolean },
	join: JoinRequest | undefined,
): DebugOptions | undefined {
	const address = gdbAddress(flags);
	const { inspect, inspectPort = 0, quiet, gdbWait } = flags;
	if (address === undefined && inspect !== true) return undefined;
	if (join !== undefined) throw joinRefusal(address === undefined ? "--inspect" : "--gdb", join, false);
	return {
		...(address === undefined ? {} : { gdb: typeof address === "string" ? resolve(address) : address }),
		...(inspect === true ? { inspect: inspectPort } : {}),
		gdbWait,
		quiet,
	};
}

/** Before anything is made. @throws HostError ERR_GDB_LISTEN, ERR_INSPECT_PORT for a port that another program has */
export async function mustBeFree({ gdb, inspect }: DebugOptions = {}): Promise<void> {
	if (typeof gdb === "number" && (await isTaken(gdb))) {
		throw new HostError("ERR_GDB_LISTEN", `Cannot listen on 127.0.0.1:${gdb} for gdb: another program has it`, {
			hint: "Choose another port, or the path of a unix socket",
		});
	}
	if (inspect !== undefined && (await isTaken(inspect))) {
		throw new HostError("ERR_INSPECT_PORT", `Cannot open the inspector on port ${inspect}: another program has it`, {
			hint: "Use --inspect, which takes a free port",
		});
	}
}

async function isTaken(port: number): Promise<boolean> {
	const server = createServer();
	return await new Promise((done) => {
		server.once("error", (error) => done(errnoName(error) === "EADDRINUSE"));
		server.listen(port, "127.0.0.1", () => server.close(() => done(false)));
	});
}

/** For the machine in the lab: ports that are the same there and here, and the words of the command line. */
export async function debugInLab(
	flags: DebugFlags,
	words: readonly string[],
): Promise<{ ports: PortForward[]; words: string[] }> {
	const { ports, words: added } = await inspectInLab(flags.inspect === true ? (flags.inspectPort ?? 0) : undefined);
	const at = words.indexOf("run") + 1;
	const port = added[1];
	const more = port === undefined ? [] : ["--inspect-port", port];
	return { ports: [...ports, ...gdbPorts(flags)], words: [...words.slice(0, at), ...more, ...words.slice(at)] };
}

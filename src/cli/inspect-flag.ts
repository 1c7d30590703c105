/*
 * --inspect of `boot` and `snapshot restore`: the inspector of a machine in the foreground. Nothing of it is loaded
 * without the flag.
 */
import { createServer } from "node:net";
import type { PortForward } from "../backends/passt-ports.ts";
import { UsageError } from "../base/errors.ts";
import type { Inspector } from "../inspector/inspector.ts";
import type { ConsoleConfig } from "../machine/config.ts";
import type { Machine } from "../machine/machine.ts";
import { openConsole } from "../machine/resources.ts";

/** "8080" -> 8080. 0 is a free one. */
export function parseInspect(text: string): number {
	if (/^\d{1,5}$/.test(text) && Number(text) <= 65535) return Number(text);
	throw new UsageError("ERR_OPTION_INSPECT", `Cannot read port "${text}" of the inspector`, {
		hint: "Give a number up to 65535, or none for a free port",
	});
}

/** What the inspector is, before its machine is made. */
export interface Inspection {
	/** The machine's console. */
	readonly console: ConsoleConfig;
	/** Opens the inspector and prints its address. @throws HostError ERR_INSPECT_PORT */
	open(machine: Machine): Promise<Inspector>;
}

/** @param config the console that was asked for @throws HostError ERR_CONSOLE_OPEN */
export async function inspection(port: number, config: ConsoleConfig = { kind: "none" }): Promise<Inspection> {
	const [{ ConsoleTap }, { Inspector }] = await Promise.all([
		import("../inspector/console-tap.ts"),
		import("../inspector/inspector.ts"),
	]);
	const tap = new ConsoleTap(openConsole(config));
	return {
		console: { kind: "own", console: tap },
		async open(machine) {
			const inspector = await Inspector.open(machine, tap, port);
			process.stderr.write(`tsvmm: inspector at ${inspector.url}\n`);
			return inspector;
		},
	};
}

/**
 * The flag for a machine in the lab: a port that is the same there and here, and free here.
 *
 * @returns what is to be published, and words to add to the command line
 */
export async function inspectInLab(port: number | undefined): Promise<{ ports: PortForward[]; words: string[] }> {
	if (port === undefined) return { ports: [], words: [] };
	const chosen = port === 0 ? await freePort() : port;
	const forward: PortForward = { hostAddress: "127.0.0.1", hostPort: chosen, guestPort: chosen, protocol: "tcp" };
	/* The last one counts. */
	return { ports: [forward], words: ["--inspect", `${chosen}`] };
}

function freePort(): Promise<number> {
	const server = createServer();
	return new Promise((resolve, reject) => {
		server.once("error", reject);
		server.listen(0, "127.0.0.1", () => {
			const { port } = server.address() as { port: number };
			server.close(() => resolve(port));
		});
	});
}

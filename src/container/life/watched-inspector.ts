/*
 * The inspector of a machine whose console is somebody else's: it sees the output as an observer, and nobody can type. It is
 * loaded only for a container that is inspected.
 */
import { NullConsole } from "../../backends/console.ts";
import { ConsoleTap } from "../../inspector/console-tap.ts";
import { Inspector } from "../../inspector/inspector.ts";
import type { Machine } from "../../machine/machine.ts";

/** @param port of 127.0.0.1; 0 for a free one @throws HostError ERR_INSPECT_PORT */
export async function watchedInspector(machine: Machine, port: number): Promise<Inspector> {
	const tap = new ConsoleTap(new NullConsole());
	const inspector = await Inspector.open(machine, tap, port);
	machine.observe({ console: (_device, bytes) => void tap.write(bytes) });
	return inspector;
}

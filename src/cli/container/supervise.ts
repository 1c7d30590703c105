/*
 * `tsvmm container supervise ID [--await-attach] [--timings] [--notes JSON] [--debug JSON] [--revive PATH]`: the own
 * entry of a supervisor (container/life/launch.ts starts it). Its words are read by hand, because what starts a container waits for it.
 */
import type { DebugOptions } from "../../container/life/debugged.ts";
import { type NoteOptions, Notes } from "../../container/life/notes.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { superviseContainer } from "../../container/life/supervisor.ts";
import { parseShape } from "../../container/template/shape.ts";
import { readinessReporter, reportBegun } from "../../host/detached-process.ts";
import { watchOutput } from "../output.ts";
import { reportError } from "../report.ts";

/** @param argv all words of the command line: "container", "supervise", and the rest */
export async function superviseMain(argv: readonly string[]): Promise<number> {
	watchOutput();
	const [id = "", ...flags] = argv.slice(2);
	if (id === "--pool") return superviseOfPool(flags);
	const awaitAttach = flags.includes("--await-attach");
	const timings = flags.includes("--timings");
	const after = (flag: string) => (flags.includes(flag) ? flags[flags.indexOf(flag) + 1] : undefined);
	const revived = after("--revive");
	const notes = after("--notes");
	const debug = after("--debug");
	const onReady = readinessReporter("ERR_CONTAINER_FAILED");
	try {
		await superviseContainer(new ContainerStore().find(id), {
			...{ awaitAttach, onReady, revived, timings },
			notes: notes === undefined ? undefined : new Notes(JSON.parse(notes) as NoteOptions),
			debug: debug === undefined ? undefined : (JSON.parse(debug) as DebugOptions),
			onListening: reportBegun,
		});
		return 0;
	} catch (error) {
		onReady(error);
		return reportError(error);
	}
}

/** `tsvmm container supervise --pool SOCKET SHAPE`: waits for its container (container/pool/supervisor.ts starts it). */
async function superviseOfPool([socket = "", shape = ""]: readonly string[]): Promise<number> {
	try {
		const { superviseWhenTaken } = await import("../../container/pool/waiting-supervisor.ts");
		await superviseWhenTaken(socket, parseShape(shape));
		return 0;
	} catch (error) {
		return reportError(error);
	}
}

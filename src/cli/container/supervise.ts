/*
 * `tsvmm container supervise ID [--await-attach] [--timings] [--revive PATH]`: the own entry of a supervisor (container/life/launch.ts
 * starts it). Its words are read by hand, because what starts a container waits for it.
 */
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
	const revive = flags.indexOf("--revive");
	const revived = revive < 0 ? undefined : flags[revive + 1];
	const onReady = readinessReporter("ERR_CONTAINER_FAILED");
	try {
		await superviseContainer(new ContainerStore().find(id), {
			...{ awaitAttach, onReady, revived, timings },
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

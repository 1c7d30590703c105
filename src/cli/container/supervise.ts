/*
 * `tsvmm container supervise`: a supervisor's own entry, not for users (container/life/launch.ts starts it).
 */
import { closeSync, writeSync } from "node:fs";
import { Command } from "commander";
import { type LaunchReport, REPORT_FD } from "../../container/life/launch.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { superviseContainer } from "../../container/life/supervisor.ts";
import { failureOf } from "../../host/request-socket.ts";

export function superviseCommand(): Command {
	return new Command("supervise")
		.argument("<id>")
		.option("--await-attach", "start the process only when somebody has attached", false)
		.action(async (id: string, { awaitAttach }: { awaitAttach: boolean }) => {
			const onReady = reporter();
			try {
				await superviseContainer(new ContainerStore().find(id), { awaitAttach, onReady });
			} catch (error) {
				onReady(error);
				throw error;
			}
		});
}

/** Reports once. The process that started this one may have gone. */
function reporter(): (error?: unknown) => void {
	let reported = false;
	return (error) => {
		if (reported) return;
		reported = true;
		const report: LaunchReport = error === undefined ? {} : { failure: failureOf(error, "ERR_CONTAINER_FAILED") };
		try {
			writeSync(REPORT_FD, JSON.stringify(report));
			closeSync(REPORT_FD);
		} catch {
			/* Nobody listens. */
		}
	};
}

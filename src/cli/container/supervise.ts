/*
 * `tsvmm container supervise`: a supervisor's own entry, not for users (container/life/launch.ts starts it).
 */
import { Command } from "commander";
import { ContainerStore } from "../../container/life/store.ts";
import { superviseContainer } from "../../container/life/supervisor.ts";
import { readinessReporter } from "../../host/detached-process.ts";

export function superviseCommand(): Command {
	return new Command("supervise")
		.argument("<id>")
		.option("--await-attach", "start the process only when somebody has attached", false)
		.action(async (id: string, { awaitAttach }: { awaitAttach: boolean }) => {
			const onReady = readinessReporter("ERR_CONTAINER_FAILED");
			try {
				await superviseContainer(new ContainerStore().find(id), { awaitAttach, onReady });
			} catch (error) {
				onReady(error);
				throw error;
			}
		});
}

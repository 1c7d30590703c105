/*
 * A command on several containers: each gets its turn, whatever becomes of the others, and its name is printed.
 */
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { watchOutput } from "../output.ts";
import { reportError } from "../report.ts";

/**
 * @param names as the user wrote them
 * @param work on each; text that it gives is printed, the name when it gives none
 * @returns 0, or the exit status of the first that failed
 */
export async function eachContainer(
	names: readonly string[],
	work: (container: StoredContainer) => Promise<unknown>,
): Promise<number> {
	watchOutput();
	const store = new ContainerStore();
	let status = 0;
	for (const name of names) {
		try {
			const container = store.find(name);
			const found = await work(container);
			process.stdout.write(`${typeof found === "string" ? found : name}\n`);
		} catch (error) {
			status ||= reportError(error);
			process.exitCode = status;
		}
	}
	return status;
}

/*
 * A command on several containers. The name of each is printed.
 */
import { ContainerStore, type StoredContainer } from "../../container/life/store.ts";
import { each } from "../each.ts";
import { watchOutput } from "../output.ts";

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
	return await each(names, async (name) => {
		const found = await work(store.find(name));
		process.stdout.write(`${typeof found === "string" ? found : name}\n`);
	});
}

/* The parts of a machine, for tests that look inside. */
import { Teardown } from "../../src/base/teardown.ts";
import { build, type Wired } from "../../src/machine/builder.ts";
import { completeConfig, type MachineConfig } from "../../src/machine/config.ts";
import { Entry } from "../../src/machine/entry.ts";
import { acquire } from "../../src/machine/resources.ts";

/** Runs `look` on the parts of a machine that has not started. */
export async function wired(config: MachineConfig, look: (parts: Wired) => void | Promise<void>): Promise<void> {
	const plan = completeConfig(config);
	const teardown = new Teardown();
	const entry = new Entry();
	try {
		const resources = await acquire(plan, entry, teardown);
		await look(await build(plan, resources, entry, teardown));
	} finally {
		await teardown.run();
	}
}

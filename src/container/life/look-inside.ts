/*
 * Looks into a container's machine for those who ask its supervisor. What that takes is loaded for the first look.
 */
import { StateError, UsageError } from "../../base/errors.ts";
import { dumpLater, explainLater } from "../../explain/answers.ts";
import type { DumpRequest, ExplainRequest, SnapshotWatch } from "../../machine/control.ts";
import type { Machine } from "../../machine/machine.ts";
import type { ContainerHost } from "./container-host.ts";
import type { StoredContainer } from "./store.ts";

/** A container under supervision. */
export interface Supervised {
	readonly host: ContainerHost;
	readonly stored: StoredContainer;
}

/** @throws what `dumpMachine` throws; UsageError ERR_RUN_JOIN, StateError ERR_CONTAINER_NOT_RUNNING for want of a machine */
export async function dumpContainer(
	container: Supervised,
	{ path, force }: DumpRequest,
	watch: SnapshotWatch,
): Promise<void> {
	const machine = machineOf(container, "dump");
	await dumpLater(machine, path, { force, ...watch });
}

/** @throws what `explainLive` throws; as above */
export async function explainContainer(container: Supervised, request: ExplainRequest): Promise<unknown> {
	const machine = machineOf(container, "explain");
	return await explainLater(machine, { ...request, output: container.host.consoleTail?.() });
}

/** From before its start on, so that one that does not come up can be looked at. */
function machineOf({ host, stored }: Supervised, attempt: string): Machine {
	const { machine } = host;
	if (machine !== undefined) return machine;
	const { joins } = stored.config;
	const refused = `Cannot ${attempt} container ${stored.shortId}`;
	if (joins === undefined) {
		throw new StateError("ERR_CONTAINER_NOT_RUNNING", `${refused}: its machine is not made yet`);
	}
	const owner = joins.id.slice(0, 12);
	throw new UsageError("ERR_RUN_JOIN", `${refused}: its machine is that of ${joins.kind} ${owner}`, {
		hint: joins.kind === "pod" ? "Run it without --pod, in a machine of its own" : `Name container ${owner}`,
	});
}

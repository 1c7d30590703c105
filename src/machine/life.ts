/*
 * What observers are told of a machine's life: of what it is made, each of its events (events.ts), and its end.
 */
import type { MachineLife, ObservedDevice } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import type { Wired } from "./builder.ts";
import type { MachineEventName } from "./events.ts";
import { virtioSlot } from "./memory-map.ts";
import type { ShutdownReason } from "./shutdown-reason.ts";

/** The first step of a machine's life: what it is made of. */
export function createdLife({ vcpus, memoryMiB, kernel, cmdline, image, slots }: Wired): MachineLife {
	const devices = slots.transports.map(({ id, slot, transport }): ObservedDevice => {
		const { address, gsi } = virtioSlot(slot);
		const { deviceId, queueSizes } = transport.device;
		return { id, name: transport.name, deviceId, address, gsi, queues: [...queueSizes] };
	});
	return { state: "created", cpus: vcpus.length, memoryMiB, kernel, cmdline, devices, restored: image !== undefined };
}

/** The step that an event is. @param told with it */
export function lifeAt(event: MachineEventName, told: string | ShutdownReason | undefined): MachineLife {
	if (typeof told === "object") return { state: "ended", ...told };
	if (event === "started" || event === "paused" || event === "resumed") return { state: event };
	return told === undefined ? { state: "panic" } : { state: "panic", detail: told };
}

/** Releases everything. Failures are added to the shutdown reason. */
export async function tearDown(teardown: Teardown, how: ShutdownReason): Promise<ShutdownReason> {
	try {
		await teardown.run();
		return how;
	} catch (error) {
		const detail = `${how.detail ?? ""} (while ending: ${(error as Error).message})`.trim();
		return { reason: how.reason, detail };
	}
}

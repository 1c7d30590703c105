/*
 * Quiesces, saves, restores and resumes all devices of one machine. The other parts of a snapshot (RAM, vCPUs, KVM's
 * interrupt controllers, a file) are not here. The vCPUs are parked first and run last:
 *
 *     threads.pause -> quiesce -> save ... a machine with the same devices, not started -> restore -> resume
 */
import { type SavedState, type StateObject, StateReader } from "../base/state.ts";
import type { Wired } from "./builder.ts";

type Parts = Pick<Wired, "platform" | "slots">;

/** Resolves when nothing is in flight at any device. */
export async function quiesceDevices({ platform, slots }: Parts): Promise<void> {
	await Promise.all(slots.transports.map(({ transport }) => transport.quiesce()));
	platform.serial.flush();
}

/** Lets devices go on after `quiesceDevices` or `restoreDevices`. */
export function resumeDevices({ slots }: Parts): void {
	for (const { transport } of slots.transports) transport.resume();
}

/**
 * The state of all devices, after `quiesceDevices`.
 *
 * @throws StateError ERR_STATE_BUSY, ERR_STATE_UNSUPPORTED
 */
export function saveDevices({ platform, slots }: Parts): SavedState {
	const states: Record<string, StateObject> = {};
	for (const [name, part] of platform.stateful) states[name] = part.save();
	const virtio = slots.transports.map(({ id, slot, transport }) => ({ id, slot, state: transport.save() }));
	return { version: 1, platform: states, virtio };
}

/**
 * Gives fresh devices the state of others. They wait for `resumeDevices`. After a failed restore the machine is
 * useless: some devices may be restored and others not.
 *
 * @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_VERSION, ERR_STATE_MISMATCH for another set of devices; StateError
 * ERR_STATE_BUSY, ERR_STATE_UNSUPPORTED
 */
export function restoreDevices({ platform, slots }: Parts, saved: unknown): void {
	const reader = new StateReader("devices", saved).version(1);
	const states = reader.object("platform");
	const virtio = reader.list("virtio", 0, 32).map((entry) => ({
		id: entry.string("id", 64),
		slot: entry.u8("slot"),
		state: entry.object("state").value,
	}));
	const here = slots.transports;
	const names = (list: readonly { id: string; slot: number }[]) =>
		list.map(({ id, slot }) => `${id} in slot ${slot}`).join(", ") || "none";
	if (names(virtio) !== names(here)) {
		throw reader.mismatch(`the state is of ${names(virtio)}, the machine has ${names(here)}`);
	}
	const parts = [...platform.stateful].map(([name, part]) => ({ part, state: states.object(name).value }));
	for (const [i, { transport }] of here.entries()) transport.restore(virtio[i]!.state);
	for (const { part, state } of parts) part.restore(state);
}

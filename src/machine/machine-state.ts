/*
 * The state of a whole machine besides its RAM, for a snapshot; and whether this host can restore it.
 */
import { SnapshotError } from "../base/errors.ts";
import { type SavedState, StateReader } from "../base/state.ts";
import { missingFeatures } from "../boot/cpu-needs.ts";
import { tsvmmVersion } from "../host/package-version.ts";
import type { Kvm } from "../kvm/system.ts";
import { readVcpu, saveVcpu, type VcpuState } from "../kvm/vcpu-state.ts";
import { readVm, saveVm, type VmState } from "../kvm/vm-state.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";
import type { SnapshotContent } from "../snapshot/write.ts";
import type { Wired } from "./builder.ts";
import { saveDevices } from "./device-states.ts";

/** A machine's state in its parts. */
export interface MachineStateParts {
	readonly vcpus: readonly VcpuState[];
	readonly vm: VmState;
	/** For `restoreDevices`, which checks it. */
	readonly devices: unknown;
	/** For GenerationId, which checks it. Undefined for a guest that knows of none. */
	readonly generation: unknown;
}

/**
 * All of a machine, for `writeSnapshot`: after `quiesceDevices`, while no vCPU runs.
 *
 * @param mustLive throws when the machine has ended
 * @throws IoctlError, StateError ERR_STATE_UNSUPPORTED, ERR_STATE_BUSY
 */
export function contentOf(wired: Wired, mustLive: () => void): SnapshotContent {
	const { vcpus, memoryMiB, kernel, cmdline, slots, ram, image } = wired;
	const devices = slots.transports.map(({ id, slot, transport }) => ({ id, slot, name: transport.name }));
	return {
		tsvmm: tsvmmVersion(),
		machine: { cpus: vcpus.length, memoryMiB, kernel, cmdline, devices },
		state: saveMachine(wired),
		memory: ram.parts,
		memoryBytes: ram.fileBytes,
		origin: image?.memory,
		writtenPages: () => ram.writtenPages(),
		mustLive,
	};
}

function saveMachine(wired: Wired): SavedState {
	const { kvm, vm, vcpus } = wired;
	return {
		version: 1,
		vcpus: vcpus.map((vcpu) => saveVcpu(kvm, vcpu)),
		vm: saveVm(vm),
		devices: saveDevices(wired),
		generation: wired.platform.generation.save(),
	};
}

/**
 * Reads a machine's state, and checks that this host can go on with it.
 *
 * @throws SnapshotError ERR_STATE_FORMAT, ERR_STATE_VERSION, ERR_SNAPSHOT_HOST
 */
export function readMachine(kvm: Kvm, cpus: number, { path, state }: SnapshotImage): MachineStateParts {
	const reader = new StateReader("machine", state).version(1);
	const vcpus = reader.list("vcpus", cpus).map(({ where, value }) => readVcpu(where, value));
	const known = new Set(kvm.getMsrIndexList());
	const unknown = vcpus.flatMap(({ msrs }) => [...msrs.keys()].filter((index) => !known.has(index)));
	if (unknown.length > 0)
		throw foreign(
			path,
			`its KVM does not know MSR ${[...new Set(unknown)].map((index) => `0x${index.toString(16)}`).join(", ")}`,
		);
	return {
		vcpus,
		vm: readVm(reader.object("vm").value),
		devices: reader.object("devices").value,
		generation: reader.has("generation") ? reader.object("generation").value : undefined,
	};
}

/**
 * Checks that a guest that boots here finds all features that this one has found.
 *
 * @param host CPUID of a vCPU as this host gives it
 * @throws SnapshotError ERR_SNAPSHOT_HOST
 */
export function checkFeatures(path: string, { cpuid }: VcpuState, host: Buffer): void {
	const features = missingFeatures(cpuid, host);
	if (features.length > 0) throw foreign(path, `its processor has no ${features.join(", ")}`);
}

function foreign(path: string, why: string): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_HOST", `Cannot restore the snapshot ${path} on this host: ${why}`, {
		hint: "Use a host like the one where it was taken",
	});
}

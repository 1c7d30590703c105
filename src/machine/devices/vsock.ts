/*
 * The vsock device of a machine, on a unix socket of the host.
 */
import type { VsockBackend } from "../../backends/contract.ts";
import { FaultyVsock, VSOCK_FAULTS } from "../../backends/faulty-vsock.ts";
import { UnixVsock } from "../../backends/unix-vsock.ts";
import { UsageError } from "../../base/errors.ts";
import type { DeviceKind, DevicePlan } from "../../virtio/device-kind.ts";
import { VsockDevice } from "../../virtio/vsock/device.ts";

/** virtio-vsock (virtio 1.2 §5.10), with Firecracker's hybrid protocol on a unix socket. */
export interface VsockConfig {
	/** Guest context ID, 3 to 2^32 - 2; 3 when missing. */
	cid?: number | undefined;
	/** Path of the listening unix socket; guest-initiated connections go to `${uds}_${port}`. None: this process only. */
	uds?: string | undefined;
}

/** The field of MachineConfig. */
export interface VsockFields {
	/** A vsock device; none when missing. */
	vsock?: VsockConfig | undefined;
}

const DEFAULT_CID = 3;

export const vsockKind: DeviceKind<VsockFields> = {
	plan: ({ vsock }) => (vsock === undefined ? [] : [vsockPlan(vsock)]),
};

function vsockPlan({ cid = DEFAULT_CID, uds }: VsockConfig): DevicePlan<VsockBackend> {
	if (!Number.isInteger(cid) || cid < 3 || cid > 0xffff_fffe) {
		throw new UsageError("ERR_CONFIG_VSOCK", `Cannot use vsock cid ${cid}: 3 to 4294967294 are possible`);
	}
	return {
		id: "vsock",
		faulty: { alias: "vsock0", events: VSOCK_FAULTS, wrap: (backend, faults) => new FaultyVsock(backend, faults) },
		open: ({ enter }) => UnixVsock.open(uds, { enter }),
		create: (backend) => new VsockDevice(cid, backend),
	};
}

/*
 * How a machine's end becomes the exit status of `tsvmm boot` (docs/errors.md).
 */
import type { ShutdownCause, ShutdownReason } from "../machine/shutdown-reason.ts";

const EXIT_STATUS: Record<ShutdownCause, number> = {
	"power-off": 0,
	reset: 0,
	stopped: 0,
	panic: 101,
	"triple-fault": 102,
	"kvm-error": 103,
	"device-failed": 125,
	"start-failed": 125,
};

/** The exit status of `tsvmm boot` for an end. */
export function shutdownStatus(end: ShutdownReason): number {
	return EXIT_STATUS[end.reason];
}

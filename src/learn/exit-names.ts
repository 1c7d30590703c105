/*
 * Exits in words, for findings.
 */
import * as constants from "../kvm/constants.ts";
import type { Exit } from "./recording.ts";
import { hex } from "./report.ts";

const NAMES = new Map<unknown, string>(
	Object.entries(constants)
		.filter(([name]) => /^KVM_EXIT_(?!IO_)/.test(name))
		.map(([name, value]) => [value, name]),
);

/** "KVM_EXIT_IO". */
export const exitName = (reason: number): string => NAMES.get(reason) ?? `exit reason ${reason}`;

/** "KVM_EXIT_MMIO: a write of 1 byte at 0x8000, where no RAM is". */
export function describeExit({ reason, port, address, isWrite, size }: Exit): string {
	const name = exitName(reason);
	const access = `a ${isWrite ? "write" : "read"} of ${size} byte${size === 1 ? "" : "s"}`;
	if (port !== undefined) return `${name}: ${access} at port ${hex(port)}`;
	if (address !== undefined) return `${name}: ${access} at ${hex(address)}, where no RAM is`;
	if (reason === constants.KVM_EXIT_SHUTDOWN)
		return `${name}: the processor met an error it could not handle (triple fault)`;
	return name;
}

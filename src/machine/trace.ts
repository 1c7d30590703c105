/*
 * `--trace`: what passes between guest and machine, one line each on stderr. Accesses that the native loop answers
 * itself and queue notifications do not stop a vCPU and so are not here.
 */
import type { Bus, BusTrace } from "../base/bus.ts";
import type { TraceKind } from "./config.ts";
import type { ExitHandler } from "./vcpu-exit.ts";

/** Switches on what is wanted. */
export function traceTo(kinds: readonly TraceKind[], pio: Bus, mmio: Bus, exits: ExitHandler): void {
	if (kinds.includes("pio")) pio.trace = accessLine("pio");
	if (kinds.includes("mmio")) mmio.trace = accessLine("mmio");
	if (kinds.includes("exits")) {
		exits.trace = (vcpu, reason) => process.stderr.write(`trace: exit vcpu=${vcpu} reason=${reason}\n`);
	}
}

function accessLine(bus: string): BusTrace {
	return (device, write, address, size, value) => {
		const hex = value.toString(16).padStart(2 * size, "0");
		process.stderr.write(`trace: ${bus} ${write ? "write" : "read"} 0x${address.toString(16)} ${hex} ${device}\n`);
	};
}

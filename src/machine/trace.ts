/*
 * `--trace`: what passes between guest and machine, one line each in the machine's log. Accesses that the native loop answers
 * itself and queue notifications do not stop a vCPU and so are not here.
 */
import type { Bus, BusTrace } from "../base/bus.ts";
import type { Logger } from "../base/log.ts";
import type { TraceKind } from "./config.ts";
import type { ExitHandler } from "./vcpu-exit.ts";

/** Switches on what is wanted. */
export function traceTo(kinds: readonly TraceKind[], pio: Bus, mmio: Bus, exits: ExitHandler, logger: Logger): void {
	if (kinds.includes("pio")) pio.trace = accessLine("pio", logger);
	if (kinds.includes("mmio")) mmio.trace = accessLine("mmio", logger);
	if (kinds.includes("exits")) {
		exits.trace = (vcpu, reason) => logger.line(`trace: exit vcpu=${vcpu} reason=${reason}`);
	}
}

function accessLine(bus: string, logger: Logger): BusTrace {
	return (device, write, address, size, value) => {
		const hex = value.toString(16).padStart(2 * size, "0");
		logger.line(`trace: ${bus} ${write ? "write" : "read"} 0x${address.toString(16)} ${hex} ${device}`);
	};
}

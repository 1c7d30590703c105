/*
 * `--trace` prints the events between guest and machine, one per line, in the machine's log.
 */
import type { Logger } from "../base/log.ts";
import type { Observer } from "../base/observer.ts";
import type { TraceKind } from "./config.ts";

/** An observer that prints the events of `kinds`. */
export function traceObserver(kinds: readonly TraceKind[], logger: Logger): Observer {
	const line = (text: string) => logger.line(`trace: ${text}`);
	const observer: Observer = {};
	if (kinds.includes("exits")) {
		observer.exit = (vcpu, reason) => line(`exit vcpu=${vcpu} reason=${reason}`);
	}
	if (kinds.includes("pio") || kinds.includes("mmio")) {
		observer.access = (bus, device, write, address, size, value) => {
			if (!kinds.includes(bus)) return;
			const hex = value.toString(16).padStart(2 * size, "0");
			line(`${bus} ${write ? "write" : "read"} 0x${address.toString(16)} ${hex} ${device}`);
		};
	}
	if (kinds.includes("mmio")) {
		observer.status = (device, status, features) =>
			line(`status ${device} 0x${status.toString(16)} driver features 0x${features.toString(16)}`);
	}
	if (kinds.includes("queues")) {
		observer.kick = (device, queue) => line(`kick ${device}.${queue}`);
		observer.pop = (device, queue, { head, readable, writable }) =>
			line(`pop ${device}.${queue} head ${head} readable ${readable.totalBytes} writable ${writable.totalBytes}`);
		observer.push = (device, queue, head, written) => line(`push ${device}.${queue} head ${head} written ${written}`);
	}
	if (kinds.includes("interrupts")) {
		observer.interrupt = (device, cause) => line(`interrupt ${device}${cause === undefined ? "" : ` cause ${cause}`}`);
		observer.complete = (device, token, result) => line(`complete ${device} request ${token} ${result}`);
	}
	return observer;
}

/*
 * Events as lines for people: what `--trace` prints, and the names of spans in other formats.
 */
import type { TraceEvent } from "../event.ts";
import type { TraceRequest } from "../request.ts";

/** "0.001234 pio read 0x3fd LSR 60 serial" */
export function traceLine(event: TraceEvent): string {
	return `${(event.t / 1e9).toFixed(6)} ${describeEvent(event)}`;
}

/** Without the time. */
export function describeEvent(event: TraceEvent): string {
	switch (event.kind) {
		case "machine":
			return describeLife(event);
		case "exit":
			return `exit vcpu=${event.vcpu} ${event.reason}`;
		case "resume":
			return `resume vcpu=${event.vcpu} after ${micros(event.took)}`;
		case "access": {
			const { bus, device, register, write, address, size, value } = event;
			const hex = value.toString(16).padStart(2 * size, "0");
			const name = register === undefined ? "" : ` ${register}`;
			return `${bus} ${write ? "write" : "read"} 0x${address.toString(16)}${name} ${hex} ${device}`;
		}
		case "status": {
			const { device, status, bits, featureNames } = event;
			const names = featureNames.length > 0 ? ` driver features ${featureNames.join(" ")}` : "";
			return `status ${device} 0x${status.toString(16)} ${bits.join(" ") || "reset"}${names}`;
		}
		case "kick":
			return `kick ${place(event)}`;
		case "chain": {
			const asked = event.request === undefined ? "" : ` ${describeRequest(event.request)}`;
			return `pop ${place(event)} head ${event.head} readable ${event.readableBytes} writable ${event.writableBytes}${asked}`;
		}
		case "used": {
			const answer = event.answer === undefined ? "" : ` ${describeRequest(event.answer)}`;
			const took = event.took === undefined ? "" : ` after ${micros(event.took)}`;
			return `push ${place(event)} head ${event.head} written ${event.written}${answer}${took}`;
		}
		case "unpop":
			return `unpop ${place(event)} head ${event.head}`;
		case "interrupt":
			return `interrupt ${event.device}${event.cause === undefined ? "" : ` ${event.cause.join(", ")}`}`;
		case "acknowledge": {
			const took = event.took === undefined ? "" : ` after ${micros(event.took)}`;
			return `acknowledge ${event.device} ${event.cause.join(", ")}${took}`;
		}
		case "complete":
			return `complete ${event.device} request ${event.token} ${event.result}`;
		case "violation":
			return `violation ${event.device} ${event.what}${event.needsReset ? ": it needs a reset" : ""}`;
		case "console":
			return `console ${event.device} ${JSON.stringify(event.text)}`;
		case "boot": {
			const clock = event.kernelSeconds === undefined ? "" : ` (kernel clock ${event.kernelSeconds} s)`;
			return `boot ${event.phase}${event.detail === undefined ? "" : `: ${event.detail}`}${clock}`;
		}
		case "agent": {
			const { toGuest, frame, session, bytes } = event;
			return `agent ${toGuest ? "host -> guest" : "guest -> host"} ${frame} session ${session} ${bytes} bytes`;
		}
		case "state": {
			const vcpus = event.vcpus.map(({ vcpu, rip, mp }) => `vCPU ${vcpu} ${mp} at ${rip}`);
			return `state ${vcpus.join(", ")}`;
		}
		case "lost":
			return `lost ${event.events} events`;
	}
}

/** A decoded header in a few words. */
export function describeRequest(request: TraceRequest): string {
	switch (request.protocol) {
		case "blk":
			if ("status" in request) return request.status;
			return `${request.type} sector ${request.sector} ${request.bytes} bytes`;
		case "net": {
			const { source, destination, etherType, bytes, gso } = request;
			return `${source} > ${destination} ${etherType} ${bytes} bytes${gso === undefined ? "" : ` ${gso}`}`;
		}
		case "vsock": {
			const { op, sourceCid, sourcePort, destinationCid, destinationPort, bytes } = request;
			return `${op} ${sourceCid}:${sourcePort} > ${destinationCid}:${destinationPort} ${bytes} bytes`;
		}
		case "fuse": {
			if ("error" in request) return request.error === 0 ? "ok" : `errno ${request.error}`;
			const name = request.name === undefined ? "" : ` ${JSON.stringify(request.name)}`;
			return `${request.opcode} node ${request.nodeid}${name}`;
		}
		default:
			return `${request.bytes} bytes`;
	}
}

function describeLife(event: Extract<TraceEvent, { kind: "machine" }>): string {
	if (event.state === "created") {
		const devices = event.devices.map(({ name }) => name).join(" ") || "none";
		return `machine created: ${event.cpus} vCPU${event.cpus === 1 ? "" : "s"}, ${event.memoryMiB} MiB, kernel ${event.kernel}, devices ${devices}`;
	}
	const reason = event.state === "ended" ? `: ${event.reason}` : "";
	const detail = "detail" in event && event.detail !== undefined ? `: ${event.detail}` : "";
	return `machine ${event.state}${reason}${detail}`;
}

function place({ device, queue, name }: { device: string; queue: number; name?: string }): string {
	return `${device}.${queue}${name === undefined ? "" : ` ${name}`}`;
}

function micros(nanoseconds: number): string {
	return `${(nanoseconds / 1000).toFixed(1)} us`;
}

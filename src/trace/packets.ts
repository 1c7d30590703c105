/*
 * The packets of net and vsock devices with their bytes, for a sink that wants them: a frame that a chain holds, or
 * several chains with VIRTIO_NET_F_MRG_RXBUF (virtio 1.2 §5.1.6.3.2).
 */
import type { Segments } from "../base/segments.ts";
import { HEADER_BYTES as NET_HEADER_BYTES, virtio_net_hdr } from "../virtio/net-header.ts";
import type { TracePacket } from "./event.ts";

/** Longest packet that is copied: a frame with segmentation offload, or a vsock packet of 64 KiB. */
const MAX_BYTES = 65_536 + 256;
const NET_RX = 0;
const NET_TX = 1;
const VSOCK_RX = 0;
const VSOCK_TX = 1;

/** A chain that a device takes or gives back. */
export interface Carried {
	readonly t: number;
	readonly device: string;
	readonly queue: number;
	readonly bytes: Segments;
	/** Of them, that belong to the packet. */
	readonly length: number;
	/** The device has written it. */
	readonly used: boolean;
}

/** A frame of which not all buffers have come. */
interface Merged {
	buffers: number;
	readonly parts: Uint8Array[];
	bytes: number;
}

export class Packets {
	readonly #give: (packet: Omit<TracePacket, "zeroUnixMs">) => void;
	readonly #merged = new Map<string, Merged>();

	constructor(give: (packet: Omit<TracePacket, "zeroUnixMs">) => void) {
		this.#give = give;
	}

	/** @param type of the device: "net" or "vsock"; others have no packets */
	chain(type: string | undefined, carried: Carried): void {
		const { t, device, queue, used } = carried;
		if (type === "vsock" && queue === (used ? VSOCK_RX : VSOCK_TX)) {
			const bytes = copied(carried, 0);
			if (bytes.length > 0) this.#give({ t, device, toGuest: used, link: "vsock", bytes });
		} else if (type === "net" && queue === NET_TX && !used) {
			const bytes = copied(carried, NET_HEADER_BYTES);
			if (bytes.length > 0) this.#give({ t, device, toGuest: false, link: "ethernet", bytes });
		} else if (type === "net" && queue === NET_RX && used) {
			this.#received(carried);
		}
	}

	/** A reset: what is not whole never will be. */
	reset(device: string): void {
		this.#merged.delete(device);
	}

	#received(carried: Carried): void {
		const { t, device } = carried;
		const pending = this.#merged.get(device);
		const part = copied(carried, pending === undefined ? NET_HEADER_BYTES : 0);
		const merged = pending ?? { buffers: buffersOf(carried), parts: [], bytes: 0 };
		if (merged.bytes + part.length <= MAX_BYTES) merged.parts.push(part);
		merged.bytes += part.length;
		merged.buffers--;
		if (merged.buffers > 0) {
			this.#merged.set(device, merged);
			return;
		}
		this.#merged.delete(device);
		const bytes = merged.parts.length === 1 ? merged.parts[0]! : Buffer.concat(merged.parts);
		if (bytes.length > 0) this.#give({ t, device, toGuest: true, link: "ethernet", bytes });
	}
}

function copied({ bytes, length }: Carried, from: number): Uint8Array {
	const out = new Uint8Array(Math.max(0, Math.min(length, bytes.totalBytes, MAX_BYTES) - from));
	bytes.copyTo(out, from);
	return out;
}

/** num_buffers; a driver without MRG_RXBUF finds 1 or 0 there. */
function buffersOf({ bytes, length }: Carried): number {
	const field = new Uint8Array(2);
	if (length < NET_HEADER_BYTES || bytes.copyTo(field, virtio_net_hdr.num_buffers) < field.length) return 1;
	return Math.max(1, field[0]! | (field[1]! << 8));
}

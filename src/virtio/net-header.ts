/*
 * struct virtio_net_hdr, which is in front of every frame (virtio 1.2 §5.1.6), and what a driver may say in it:
 *
 *     | header, 12 bytes | Ethernet | IP | TCP .................. | payload ............ |
 *       csum_start ---------------------> the checksum covers from here to the end
 *                                         csum_offset -> it goes here
 *       gso_size: bytes of payload in each segment that the host makes
 *
 * A host's kernel and its network card act on it, so it is read once and checked before anything of it leaves.
 */
import { struct } from "../base/struct.ts";

export const virtio_net_hdr = struct("virtio_net_hdr_mrg_rxbuf", {
	flags: "u8",
	gso_type: "u8",
	hdr_len: "u16",
	gso_size: "u16",
	csum_start: "u16",
	csum_offset: "u16",
	num_buffers: "u16",
});
export const HEADER_BYTES = virtio_net_hdr.sizeof;

export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_HOST_ECN = 1n << 13n;

export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

const CHECKSUM_BYTES = 2;
/** From csum_start on. */
const TCP_HEADER_BYTES = 20;

/** What a driver has negotiated for the frames that it sends. */
export class SentOffloads {
	readonly #csum: boolean;
	/** The values of gso_type that may come. */
	readonly #gsoTypes = new Set([VIRTIO_NET_HDR_GSO_NONE]);

	constructor(features: bigint) {
		const has = (feature: bigint) => (features & feature) !== 0n;
		this.#csum = has(VIRTIO_NET_F_CSUM);
		for (const [feature, type] of [
			[VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_HDR_GSO_TCPV4],
			[VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_HDR_GSO_TCPV6],
		] as const) {
			if (!has(feature)) continue;
			this.#gsoTypes.add(type);
			if (has(VIRTIO_NET_F_HOST_ECN)) this.#gsoTypes.add(type | VIRTIO_NET_HDR_GSO_ECN);
		}
	}

	/**
	 * Checks the header of a frame of `frameBytes`, and clears what a device ignores. Returns what is wrong with it, or
	 * undefined.
	 */
	check(header: DataView, frameBytes: number): string | undefined {
		const flags = header.getUint8(virtio_net_hdr.flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM;
		const gsoType = header.getUint8(virtio_net_hdr.gso_type);
		/* Only the device gives the other flags, and a number of buffers. */
		header.setUint8(virtio_net_hdr.flags, flags);
		header.setUint16(virtio_net_hdr.num_buffers, 0, true);
		const start = header.getUint16(virtio_net_hdr.csum_start, true);
		if (flags !== 0) {
			if (!this.#csum) return "a checksum is left to the host, without VIRTIO_NET_F_CSUM";
			const end = start + header.getUint16(virtio_net_hdr.csum_offset, true) + CHECKSUM_BYTES;
			if (end > frameBytes) return `its checksum ends at byte ${end}`;
		}
		if (header.getUint16(virtio_net_hdr.hdr_len, true) > frameBytes) return "its headers are longer than the frame";
		if (gsoType === VIRTIO_NET_HDR_GSO_NONE) return undefined;
		if (!this.#gsoTypes.has(gsoType)) return `GSO type ${gsoType} was not negotiated`;
		if (flags === 0) return "segments without a checksum";
		if (header.getUint16(virtio_net_hdr.gso_size, true) === 0) return "segments of 0 bytes";
		if (start + TCP_HEADER_BYTES > frameBytes) return `its TCP header begins at byte ${start}`;
		return undefined;
	}
}

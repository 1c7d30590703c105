/*
 * virtio-blk (virtio 1.2 §5.2.6): virtio_blk_outhdr in front, the status byte at the end.
 */
import { getU64 } from "../../base/u64.ts";
import * as constants from "../../virtio/block-request.ts";
import { type Decoder, nameOf, namesOf } from "./decoder.ts";

const TYPES = namesOf(constants, "VIRTIO_BLK_T_");
const STATUSES = namesOf(constants, "VIRTIO_BLK_S_");
const { REQUEST_HEADER_BYTES, virtio_blk_outhdr } = constants;
const HEADER = new Uint8Array(REQUEST_HEADER_BYTES);
const VIEW = new DataView(HEADER.buffer);
const STATUS_BYTES = 1;

export const blockDecoder: Decoder = {
	queueName: (queue, queues) => (queues > 1 ? `requestq${queue + 1}` : "requestq"),
	request({ chain: { readable, writable } }) {
		if (readable.copyTo(HEADER) < REQUEST_HEADER_BYTES) return undefined;
		return {
			protocol: "blk",
			type: nameOf(TYPES, VIEW.getUint32(virtio_blk_outhdr.type, true), "VIRTIO_BLK_T_"),
			sector: getU64(VIEW, virtio_blk_outhdr.sector),
			bytes: readable.totalBytes - REQUEST_HEADER_BYTES + Math.max(0, writable.totalBytes - STATUS_BYTES),
		};
	},
	answer({ chain: { writable } }) {
		if (writable.totalBytes === 0) return undefined;
		const status = new Uint8Array(STATUS_BYTES);
		writable.copyTo(status, writable.totalBytes - STATUS_BYTES);
		return { protocol: "blk", status: nameOf(STATUSES, status[0]!, "VIRTIO_BLK_S_") };
	},
};

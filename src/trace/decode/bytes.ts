/*
 * Devices whose buffers have no header: entropy (virtio 1.2 §5.4), the console's text (§5.3), the balloon's pages (§5.5).
 */
import type { BytesTrace } from "../request.ts";
import type { Decoder } from "./decoder.ts";

const bytes = (protocol: BytesTrace["protocol"], count: number): BytesTrace => ({ protocol, bytes: count });

export const rngDecoder: Decoder = {
	queueName: () => "requestq",
	request: ({ chain }) => bytes("rng", chain.writable.totalBytes),
	answer: ({ written }) => bytes("rng", written),
};

export const consoleDecoder: Decoder = {
	queueName: (queue) => ["receiveq", "transmitq"][queue],
	request: ({ chain, queue }) => (queue === 1 ? bytes("console", chain.readable.totalBytes) : undefined),
	answer: ({ written, queue }) => (queue === 0 ? bytes("console", written) : undefined),
};

export const balloonDecoder: Decoder = {
	queueName: (queue) => ["inflateq", "deflateq", "statsq", "reporting_vq"][queue],
	request: ({ chain }) => bytes("balloon", chain.readable.totalBytes + chain.writable.totalBytes),
};

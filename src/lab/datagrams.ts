/*
 * Datagrams on a byte stream, between the two ends of the lab's relay for UDP:
 *
 *     0: port, u16      2: client, u32      6: length, u16      8: payload
 *
 * A port is one of those that are published, by its place among them. Each sender to it is a client, and has a number.
 */

/** A datagram of a client, or for it. */
export interface RelayedDatagram {
	port: number;
	client: number;
	payload: Buffer;
}

const HEADER_BYTES = 8;

export function encodeDatagram({ port, client, payload }: RelayedDatagram): Buffer {
	const bytes = Buffer.alloc(HEADER_BYTES + payload.length);
	bytes.writeUInt16BE(port, 0);
	bytes.writeUInt32BE(client, 2);
	bytes.writeUInt16BE(payload.length, 6);
	payload.copy(bytes, HEADER_BYTES);
	return bytes;
}

/** Takes a stream apart. */
export class DatagramDecoder {
	#rest: Buffer = Buffer.alloc(0);

	/** The datagrams that are whole with this chunk. */
	*take(chunk: Buffer): Generator<RelayedDatagram> {
		this.#rest = Buffer.concat([this.#rest, chunk]);
		while (this.#rest.length >= HEADER_BYTES) {
			const end = HEADER_BYTES + this.#rest.readUInt16BE(6);
			if (this.#rest.length < end) return;
			const payload = this.#rest.subarray(HEADER_BYTES, end);
			yield { port: this.#rest.readUInt16BE(0), client: this.#rest.readUInt32BE(2), payload };
			this.#rest = this.#rest.subarray(end);
		}
	}
}

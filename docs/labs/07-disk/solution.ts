/*
 * Lab 7, solved: a virtio-blk device (virtio 1.2 §5.2) on an array of bytes.
 */
import type { Activation, Chain, VirtioDevice, Virtqueue } from "tsvmm/virtio";

const SECTOR_BYTES = 512;
const HEADER_BYTES = 16;

const T_IN = 0;
const T_OUT = 1;
const T_FLUSH = 4;
const T_GET_ID = 8;

const S_OK = 0;
const S_IOERR = 1;
const S_UNSUPP = 2;

export class Disk implements VirtioDevice {
	readonly name = "disk";
	readonly deviceId = 2;
	readonly features = 1n << 9n; /* VIRTIO_BLK_F_FLUSH */
	readonly queueSizes = [128];
	readonly config = new Uint8Array(8);
	readonly #bytes: Uint8Array;
	#queue: Virtqueue | undefined;

	/** @param bytes the disk, whole sectors */
	constructor(bytes: Uint8Array) {
		this.#bytes = bytes;
		new DataView(this.config.buffer).setBigUint64(0, BigInt(bytes.length / SECTOR_BYTES), true);
	}

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	notify(): void {
		const queue = this.#queue;
		for (let chain = queue?.pop(); chain !== undefined; chain = queue?.pop()) {
			queue?.push(chain, this.#serve(chain));
		}
		queue?.flush();
	}

	reset(): void {
		this.#queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}

	/** @returns how many bytes it has written to the guest */
	#serve({ readable, writable }: Chain): number {
		if (readable.totalBytes < HEADER_BYTES || writable.totalBytes < 1) return 0;
		const header = new Uint8Array(HEADER_BYTES);
		readable.copyTo(header);
		const view = new DataView(header.buffer);
		const type = view.getUint32(0, true);
		const sector = view.getBigUint64(8, true);
		const room = writable.totalBytes - 1;
		let status = S_OK;
		let written = 0;
		if (type === T_IN) {
			const part = this.#part(sector, room);
			if (part === undefined) status = S_IOERR;
			else written = writable.copyFrom(part);
		} else if (type === T_OUT) {
			const part = this.#part(sector, readable.totalBytes - HEADER_BYTES);
			if (part === undefined) status = S_IOERR;
			else readable.copyTo(part, HEADER_BYTES);
		} else if (type === T_GET_ID) {
			const id = Buffer.alloc(Math.min(room, 20));
			id.write("lab-7");
			written = writable.copyFrom(id);
		} else if (type !== T_FLUSH) {
			status = S_UNSUPP;
		}
		writable.copyFrom(Uint8Array.of(status), room);
		return written + 1;
	}

	/** The bytes of whole sectors that exist. */
	#part(sector: bigint, lengthBytes: number): Uint8Array | undefined {
		if (lengthBytes % SECTOR_BYTES !== 0) return undefined;
		if (sector * BigInt(SECTOR_BYTES) + BigInt(lengthBytes) > BigInt(this.#bytes.length)) return undefined;
		const start = Number(sector) * SECTOR_BYTES;
		return this.#bytes.subarray(start, start + lengthBytes);
	}
}

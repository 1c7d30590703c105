/*
 * The decoders by device ID (virtio 1.2 §5), and by the beginning of the names that a machine gives its devices.
 */

import { blockDecoder } from "./block.ts";
import { balloonDecoder, consoleDecoder, rngDecoder } from "./bytes.ts";
import type { Decoder } from "./decoder.ts";
import { fuseDecoder } from "./fuse.ts";
import { netDecoder } from "./net.ts";
import { vsockDecoder } from "./vsock.ts";

/** One row for each type of device: its ID, the class in its name, its decoder. */
export const DEVICE_TYPES: readonly (readonly [deviceId: number, type: string, decoder: Decoder])[] = [
	[1, "net", netDecoder],
	[2, "blk", blockDecoder],
	[3, "console", consoleDecoder],
	[4, "rng", rngDecoder],
	[5, "balloon", balloonDecoder],
	[19, "vsock", vsockDecoder],
	[26, "fs", fuseDecoder],
];

/** "blk" for 2; undefined for a type that has no row. */
export function typeOfId(deviceId: number): string | undefined {
	return DEVICE_TYPES.find(([id]) => id === deviceId)?.[1];
}

/** "blk" for "virtio-blk0"; undefined for a name of another form. */
export function typeOfName(device: string): string | undefined {
	const type = /^virtio-([a-z]+)\d*$/.exec(device)?.[1];
	return DEVICE_TYPES.some(([, known]) => known === type) ? type : undefined;
}

export function decoderOf(type: string | undefined): Decoder | undefined {
	return DEVICE_TYPES.find(([, known]) => known === type)?.[2];
}

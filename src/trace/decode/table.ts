/*
 * The decoder of each type of device.
 */
import type { DeviceType } from "../device-types.ts";
import { blockDecoder } from "./block.ts";
import { balloonDecoder, consoleDecoder, rngDecoder } from "./bytes.ts";
import type { Decoder } from "./decoder.ts";
import { fuseDecoder } from "./fuse.ts";
import { netDecoder } from "./net.ts";
import { vsockDecoder } from "./vsock.ts";

const DECODERS: Readonly<Record<DeviceType, Decoder>> = {
	net: netDecoder,
	blk: blockDecoder,
	console: consoleDecoder,
	rng: rngDecoder,
	balloon: balloonDecoder,
	vsock: vsockDecoder,
	fs: fuseDecoder,
};

/** Undefined for a type that is not known. */
export function decoderOf(type: DeviceType | undefined): Decoder | undefined {
	return type === undefined ? undefined : DECODERS[type];
}

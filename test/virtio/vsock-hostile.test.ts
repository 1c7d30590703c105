/*
 * VsockDevice before drivers that break the rules of the ring or send packets at random (device-suite.ts). What a guest
 * can do wrong with connections is in vsock.test.ts.
 */
import type { VsockBackend } from "../../src/backends/contract.ts";
import { duplexPair } from "../../src/backends/duplex-pair.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { deviceSuite } from "./device-suite.ts";
import { CID, header } from "./vsock-guest.ts";

/** A host on which every port listens and sends back what it hears. */
const echoing: VsockBackend = {
	start: () => undefined,
	open: async () => {
		const [ours, theirs] = duplexPair();
		ours.on("error", () => undefined).pipe(ours);
		return theirs;
	},
	close: async () => undefined,
};

deviceSuite({
	name: "VsockDevice",
	make: () => new VsockDevice(CID, echoing),
	eager: [1],
	rounds: 150,
	fill: (random, bytes) => {
		bytes.set(
			header({
				srcPort: random.below(3),
				dstPort: random.below(3),
				op: random.below(9),
				len: random.chance(3) ? random.below(2 ** 16) : Math.max(0, bytes.length - 44),
				flags: random.below(4),
				bufAlloc: random.below(2 ** 17),
				fwdCnt: random.below(2 ** 17),
			}),
		);
	},
});

import { describe, expect, test } from "vitest";
import {
	HEADER_BYTES,
	SentOffloads,
	VIRTIO_NET_F_CSUM,
	VIRTIO_NET_F_HOST_ECN,
	VIRTIO_NET_F_HOST_TSO4,
	VIRTIO_NET_F_HOST_TSO6,
	virtio_net_hdr,
} from "../../src/virtio/net-header.ts";
import { Random } from "../driver/random.ts";

const ALL = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN;
/** A TCP segment as Linux gives it: Ethernet, IPv4 and TCP without options. */
const TCP4 = { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1448, csum_start: 34, csum_offset: 16, num_buffers: 0 };
type Fields = typeof TCP4;

function headerOf(fields: Fields): DataView {
	const header = new DataView(new ArrayBuffer(HEADER_BYTES));
	header.setUint8(virtio_net_hdr.flags, fields.flags);
	header.setUint8(virtio_net_hdr.gso_type, fields.gso_type);
	for (const name of ["hdr_len", "gso_size", "csum_start", "csum_offset", "num_buffers"] as const)
		header.setUint16(virtio_net_hdr[name], fields[name], true);
	return header;
}

function checked(fields: Partial<Fields>, { features = ALL, frameBytes = 65_000 } = {}): string | undefined {
	return new SentOffloads(features).check(headerOf({ ...TCP4, ...fields }), frameBytes);
}

describe("SentOffloads", () => {
	test.each([
		["a segment of TCP over IPv4", {}],
		["one of TCP over IPv6", { gso_type: 4, hdr_len: 74, csum_start: 54 }],
		["one with congestion notification", { gso_type: 0x81 }],
		["a partial checksum", { gso_type: 0, gso_size: 0 }],
		["nothing", { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 }],
		["fields that do not count", { flags: 0, gso_type: 0, hdr_len: 0, csum_start: 0xffff, csum_offset: 0xffff }],
	])("takes %s", (_, fields) => {
		expect(checked(fields)).toBeUndefined();
	});

	test("clears flags and a number that only a device gives", () => {
		const header = headerOf({ ...TCP4, flags: 0xff, num_buffers: 7 });
		expect(new SentOffloads(ALL).check(header, 65_000)).toBeUndefined();
		expect([header.getUint8(virtio_net_hdr.flags), header.getUint16(virtio_net_hdr.num_buffers, true)]).toEqual([1, 0]);
	});

	test.each([
		[{ csum_offset: 64_965 }, {}, "its checksum ends at byte 65001"],
		[{ csum_start: 0xffff, csum_offset: 0xffff }, {}, "its checksum ends at byte 131072"],
		[{ hdr_len: 1001 }, { frameBytes: 1000 }, "its headers are longer than the frame"],
		[{ gso_type: 3 }, {}, "GSO type 3 was not negotiated"],
		[{ gso_type: 5 }, {}, "GSO type 5 was not negotiated"],
		[{ gso_type: 0x80 }, {}, "GSO type 128 was not negotiated"],
		[{}, { features: VIRTIO_NET_F_CSUM }, "GSO type 1 was not negotiated"],
		[{ gso_type: 4 }, { features: VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 }, "GSO type 4 was not negotiated"],
		[{ gso_type: 0x81 }, { features: ALL & ~VIRTIO_NET_F_HOST_ECN }, "GSO type 129 was not negotiated"],
		[{ gso_type: 0 }, { features: 0n }, "a checksum is left to the host, without VIRTIO_NET_F_CSUM"],
		[{ flags: 0 }, {}, "segments without a checksum"],
		[{ gso_size: 0 }, {}, "segments of 0 bytes"],
		[{ csum_start: 990, csum_offset: 4 }, { frameBytes: 1000 }, "its TCP header begins at byte 990"],
	])("refuses %o of a driver with %o", (fields, options, fault) => {
		expect(checked(fields, options)).toBe(fault);
	});

	test("passes nothing on of 100,000 random headers that leaves the frame", () => {
		const random = new Random(7);
		const header = new DataView(new ArrayBuffer(HEADER_BYTES));
		let taken = 0;
		for (let round = 0; round < 100_000; round++) {
			const features = BigInt(random.below(1 << 14));
			const frameBytes = 14 + random.below(random.below(2) === 0 ? 100 : 65_535);
			for (let i = 0; i < HEADER_BYTES; i++)
				header.setUint8(i, random.below(3) === 0 ? random.below(256) : random.below(2));
			if (new SentOffloads(features).check(header, frameBytes) !== undefined) continue;
			taken++;
			const word = (name: "hdr_len" | "gso_size" | "csum_start" | "csum_offset") =>
				header.getUint16(virtio_net_hdr[name], true);
			const needsCsum = header.getUint8(virtio_net_hdr.flags) === 1;
			const end = word("csum_start") + word("csum_offset") + 2;
			expect(word("hdr_len")).toBeLessThanOrEqual(frameBytes);
			if (needsCsum) expect([end <= frameBytes, features & VIRTIO_NET_F_CSUM]).toEqual([true, VIRTIO_NET_F_CSUM]);
			if (header.getUint8(virtio_net_hdr.gso_type) !== 0)
				expect([needsCsum, word("gso_size") > 0]).toEqual([true, true]);
		}
		expect(taken).toBeGreaterThan(1000);
	});
});

/*
 * The packets that a host on the switch reads and writes: ARP for IPv4 (RFC 826) and UDP (RFC 768) in IPv4 (RFC 791).
 *
 *     Ethernet 0 dst  6 src  12 type | ARP  14 .. 20 operation  22 sender  28 IP  32 target  38 IP
 *                                    | IPv4 14 .. 23 protocol  26 source  30 destination | UDP | payload
 */

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERNET_BYTES = 14;
const ARP_BYTES = ETHERNET_BYTES + 28;
/** Hardware Ethernet, protocol IPv4, and the lengths of their addresses. */
const ARP_ETHERNET_IPV4 = Buffer.from("000108000604", "hex");
const ARP_REQUEST = 1;
const ARP_REPLY = 2;
const IP_BYTES = 20;
const UDP_BYTES = 8;
const UDP = 17;
const TTL = 64;
/** All but the bits "do not fragment" and reserved: a fragment has one of them. */
const FRAGMENT = 0x3fff;

/** A station: its Ethernet and its IPv4 address, 6 and 4 bytes. */
export interface Station {
	mac: Buffer;
	address: Buffer;
}

export interface Datagram {
	from: Station & { port: number };
	to: Station & { port: number };
	payload: Buffer;
}

/** "10.0.2.2" as bytes. */
export function addressBytes(text: string): Buffer {
	return Buffer.from(text.split(".").map(Number));
}

/** Whom an ARP request comes from and which address it asks for; undefined for any other frame. */
export function readArpRequest(frame: Buffer): { from: Station; wanted: Buffer } | undefined {
	if (frame.length < ARP_BYTES || frame.readUInt16BE(12) !== ETHERTYPE_ARP) return undefined;
	if (!frame.subarray(14, 20).equals(ARP_ETHERNET_IPV4) || frame.readUInt16BE(20) !== ARP_REQUEST) return undefined;
	const from = { mac: copy(frame.subarray(22, 28)), address: copy(frame.subarray(28, 32)) };
	return { from, wanted: copy(frame.subarray(38, 42)) };
}

/** The answer: `own` has the address that `to` has asked for. */
export function arpReply(own: Station, to: Station): Buffer {
	const operation = Buffer.from([0, ARP_REPLY]);
	return Buffer.concat([
		ethernet(own.mac, to.mac, ETHERTYPE_ARP),
		ARP_ETHERNET_IPV4,
		operation,
		...[own.mac, own.address, to.mac, to.address],
	]);
}

/** The UDP datagram in a frame. Undefined for any other frame, for a fragment, and where a length does not fit. */
export function readDatagram(frame: Buffer): Datagram | undefined {
	if (frame.length < ETHERNET_BYTES + IP_BYTES || frame.readUInt16BE(12) !== ETHERTYPE_IPV4) return undefined;
	const headerBytes = (frame[14]! & 0x0f) * 4;
	const totalBytes = frame.readUInt16BE(16);
	if (frame[14]! >> 4 !== 4 || headerBytes < IP_BYTES || totalBytes < headerBytes + UDP_BYTES) return undefined;
	if (frame.length < ETHERNET_BYTES + totalBytes) return undefined;
	if (frame[23] !== UDP || (frame.readUInt16BE(20) & FRAGMENT) !== 0) return undefined;
	const udp = frame.subarray(ETHERNET_BYTES + headerBytes, ETHERNET_BYTES + totalBytes);
	const udpBytes = udp.readUInt16BE(4);
	if (udpBytes < UDP_BYTES || udpBytes > udp.length) return undefined;
	return {
		from: { mac: copy(frame.subarray(6, 12)), address: copy(frame.subarray(26, 30)), port: udp.readUInt16BE(0) },
		to: { mac: copy(frame.subarray(0, 6)), address: copy(frame.subarray(30, 34)), port: udp.readUInt16BE(2) },
		payload: copy(udp.subarray(UDP_BYTES, udpBytes)),
	};
}

/** A frame with a UDP datagram. Its UDP checksum is 0, which means that there is none. */
export function datagramFrame({ from, to, payload }: Datagram): Buffer {
	const udp = Buffer.alloc(UDP_BYTES);
	udp.writeUInt16BE(from.port, 0);
	udp.writeUInt16BE(to.port, 2);
	udp.writeUInt16BE(UDP_BYTES + payload.length, 4);
	const ip = Buffer.alloc(IP_BYTES);
	ip[0] = 0x45;
	ip.writeUInt16BE(IP_BYTES + UDP_BYTES + payload.length, 2);
	ip[8] = TTL;
	ip[9] = UDP;
	from.address.copy(ip, 12);
	to.address.copy(ip, 16);
	ip.writeUInt16BE(checksum(ip), 10);
	return Buffer.concat([ethernet(from.mac, to.mac, ETHERTYPE_IPV4), ip, udp, payload]);
}

function ethernet(from: Buffer, to: Buffer, type: number): Buffer {
	return Buffer.concat([to, from, Buffer.from([type >> 8, type & 0xff])]);
}

/** The internet checksum (RFC 1071) of a header of whole words. */
function checksum(header: Buffer): number {
	let sum = 0;
	for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return sum ^ 0xffff;
}

/** A frame's bytes are valid during one call only. */
function copy(bytes: Buffer): Buffer {
	return Buffer.from(bytes);
}

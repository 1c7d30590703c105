/*
 * DHCP messages (RFC 2131 §2, options of RFC 2132), as far as a server needs them:
 *
 *     0 op  1 htype  2 hlen  4 xid  10 flags  12 ciaddr  16 yiaddr  20 siaddr  28 chaddr  236 cookie  240 options
 */

const BOOTREQUEST = 1;
const BOOTREPLY = 2;
const ETHERNET = 1;
const MAC_BYTES = 6;
const COOKIE = Buffer.from([99, 130, 83, 99]);
const OPTIONS_AT = 240;
/** A message of BOOTP has at least 300 bytes (RFC 1542 §2.1). */
const LEAST_BYTES = 300;
/** The flag in `flags`: the client takes only broadcasts yet. */
const BROADCAST = 0x8000;

export const MessageType = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7, inform: 8 };

/** Options by their number in RFC 2132. */
export const Option = {
	pad: 0,
	mask: 1,
	router: 3,
	nameServer: 6,
	mtu: 26,
	requestedAddress: 50,
	leaseTime: 51,
	messageType: 53,
	server: 54,
	end: 255,
};

/** What a client has sent. */
export interface DhcpRequest {
	type: number;
	/** Its Ethernet address. */
	mac: Buffer;
	/** The address that it has already; 0.0.0.0 for none. */
	address: Buffer;
	takesOnlyBroadcasts: boolean;
	/** The rest, by number. */
	options: ReadonlyMap<number, Buffer>;
	/** What the reply repeats: xid, flags, giaddr, chaddr. */
	message: Buffer;
}

/** Undefined for what is no request of an Ethernet client. */
export function readDhcpRequest(message: Buffer): DhcpRequest | undefined {
	if (message.length < OPTIONS_AT || message[0] !== BOOTREQUEST) return undefined;
	if (message[1] !== ETHERNET || message[2] !== MAC_BYTES) return undefined;
	if (!message.subarray(236, OPTIONS_AT).equals(COOKIE)) return undefined;
	const options = readOptions(message);
	const type = options?.get(Option.messageType)?.[0];
	if (options === undefined || type === undefined) return undefined;
	return {
		type,
		options,
		message,
		mac: message.subarray(28, 28 + MAC_BYTES),
		address: message.subarray(12, 16),
		takesOnlyBroadcasts: (message.readUInt16BE(10) & BROADCAST) !== 0,
	};
}

/** Undefined when one goes beyond the end. */
function readOptions(message: Buffer): Map<number, Buffer> | undefined {
	const options = new Map<number, Buffer>();
	for (let at = OPTIONS_AT; at < message.length; ) {
		const number = message[at++]!;
		if (number === Option.pad) continue;
		if (number === Option.end) return options;
		const length = message[at++];
		if (length === undefined || at + length > message.length) return undefined;
		/* The first counts. */
		if (!options.has(number)) options.set(number, message.subarray(at, at + length));
		at += length;
	}
	return options;
}

/**
 * The reply to a request.
 *
 * @param address "your address"; 0.0.0.0 in a NAK
 */
export function dhcpReply(
	{ message, address: had }: DhcpRequest,
	address: Buffer,
	options: readonly (readonly [option: number, value: Buffer])[],
): Buffer {
	const head = Buffer.alloc(OPTIONS_AT);
	head[0] = BOOTREPLY;
	head[1] = ETHERNET;
	head[2] = MAC_BYTES;
	message.copy(head, 4, 4, 8);
	message.copy(head, 10, 10, 12);
	had.copy(head, 12);
	address.copy(head, 16);
	message.copy(head, 24, 24, 44);
	COOKIE.copy(head, 236);
	const body = options.map(([option, value]) => Buffer.concat([Buffer.from([option, value.length]), value]));
	const reply = Buffer.concat([head, ...body, Buffer.from([Option.end])]);
	return Buffer.concat([reply, Buffer.alloc(Math.max(0, LEAST_BYTES - reply.length))]);
}

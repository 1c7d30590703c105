/*
 * The DHCP server of a network (RFC 2131), a service of a SwitchHost. A network gives each member one address for as long
 * as it is connected, so there are no leases to keep: the server tells each client the address that it has.
 *
 *     DISCOVER -> OFFER      REQUEST -> ACK, or NAK for another address      INFORM -> ACK without an address
 */
import { type DhcpRequest, dhcpReply, MessageType, Option, readDhcpRequest } from "./dhcp-message.ts";
import { addressBytes } from "./packets.ts";
import type { UdpService } from "./switch-host.ts";

export const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
/** A client asks again after half of it. */
const LEASE_SECONDS = 3600;
const NO_ADDRESS = addressBytes("0.0.0.0");
const ALL = addressBytes("255.255.255.255");
const ALL_STATIONS = Buffer.alloc(6, 0xff);

export interface DhcpServerOptions {
	/** The server's own address. */
	server: string;
	/** What each client is told. */
	mask: string;
	router?: string | undefined;
	nameServer: string;
	mtu: number;
	/** The address of the member with an Ethernet address; undefined when there is no such member. */
	addressOf: (mac: Buffer) => string | undefined;
}

/** For `SwitchHost.serve` at DHCP_SERVER_PORT. */
export function dhcpServer(options: DhcpServerOptions): UdpService {
	return ({ from, payload }, reply) => {
		const request = readDhcpRequest(payload);
		/* A client asks for itself alone. */
		if (request === undefined || !request.mac.equals(from.mac)) return;
		const answer = answerTo(request, options);
		if (answer === undefined) return;
		const isConfigured = !request.address.equals(NO_ADDRESS);
		const mac = request.takesOnlyBroadcasts ? ALL_STATIONS : from.mac;
		reply({ mac, address: isConfigured ? request.address : ALL, port: DHCP_CLIENT_PORT }, answer);
	};
}

function answerTo(request: DhcpRequest, options: DhcpServerOptions): Buffer | undefined {
	const server = addressBytes(options.server);
	const address = options.addressOf(request.mac);
	const chosen = request.options.get(Option.server);
	if (address === undefined || (chosen !== undefined && !chosen.equals(server))) return undefined;
	const own = addressBytes(address);
	switch (request.type) {
		case MessageType.discover:
			return dhcpReply(request, own, [...head(MessageType.offer, server), ...lease(), ...settings(options)]);
		case MessageType.request: {
			const wanted = request.options.get(Option.requestedAddress) ?? request.address;
			if (!wanted.equals(own)) return dhcpReply(request, NO_ADDRESS, head(MessageType.nak, server));
			return dhcpReply(request, own, [...head(MessageType.ack, server), ...lease(), ...settings(options)]);
		}
		case MessageType.inform:
			return dhcpReply(request, NO_ADDRESS, [...head(MessageType.ack, server), ...settings(options)]);
		default:
			return undefined;
	}
}

type Options = (readonly [option: number, value: Buffer])[];

function head(type: number, server: Buffer): Options {
	return [
		[Option.messageType, Buffer.from([type])],
		[Option.server, server],
	];
}

function lease(): Options {
	const seconds = Buffer.alloc(4);
	seconds.writeUInt32BE(LEASE_SECONDS);
	return [[Option.leaseTime, seconds]];
}

function settings({ mask, router, nameServer, mtu }: DhcpServerOptions): Options {
	const size = Buffer.alloc(2);
	size.writeUInt16BE(mtu);
	return [
		[Option.mask, addressBytes(mask)],
		...(router === undefined ? [] : [[Option.router, addressBytes(router)] as const]),
		[Option.nameServer, addressBytes(nameServer)],
		[Option.mtu, size],
	];
}

/*
 * A host of our own on the switch, with an Ethernet and an IPv4 address. It answers ARP for itself, and passes UDP
 * datagrams for it, or for all, to the service of their port:
 *
 *     switch -> SwitchHost.send -> ARP for our address -> reply
 *                               -> UDP -> service of the port -> reply -> switch
 */
import type { EthernetSwitch, SwitchPort } from "./ethernet-switch.ts";
import {
	addressBytes,
	arpReply,
	type Datagram,
	datagramFrame,
	readArpRequest,
	readDatagram,
	type Station,
} from "./packets.ts";

const ALL = addressBytes("255.255.255.255");

/** Where a reply goes. */
export type Destination = Datagram["to"];

/** What answers the datagrams to one port. `reply` may be called later, or never. */
export type UdpService = (datagram: Datagram, reply: (to: Destination, payload: Buffer) => void) => void;

export class SwitchHost implements SwitchPort {
	readonly #switch: EthernetSwitch;
	readonly #station: Station;
	readonly #services = new Map<number, UdpService>();

	/** Connects it to the switch. */
	constructor(network: EthernetSwitch, station: Station) {
		this.#switch = network;
		this.#station = station;
		network.add(this, station.mac);
	}

	/** Gives the datagrams to `port` to a service. */
	serve(port: number, service: UdpService): this {
		this.#services.set(port, service);
		return this;
	}

	send(frame: Buffer): void {
		const request = readArpRequest(frame);
		if (request?.wanted.equals(this.#station.address)) {
			this.#switch.receive(arpReply(this.#station, request.from), this);
			return;
		}
		const datagram = readDatagram(frame);
		if (datagram === undefined) return;
		const { address, port } = datagram.to;
		if (!address.equals(this.#station.address) && !address.equals(ALL)) return;
		this.#services.get(port)?.(datagram, (to, payload) => {
			this.#switch.receive(datagramFrame({ from: { ...this.#station, port }, to, payload }), this);
		});
	}
}

/*
 * The name server of a network: a host on the switch, with an Ethernet and an IPv4 address of its own. It answers ARP for
 * itself, and DNS queries by UDP: for names of members itself, for all others what the host's name server says.
 */
import { answerWith, failWith, RCODE_SERVFAIL, readQuestion, TYPE_A } from "./dns-message.ts";
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

const DNS_PORT = 53;
/** Short: a member that has gone may come back with another address. */
const TTL_SECONDS = 5;

export interface NameServerOptions {
	station: Station;
	/** The addresses of a name, "10.0.0.2", in lower case; undefined when it is no member's. */
	lookUp: (name: string) => readonly string[] | undefined;
	/** The answer to a query about any other name. Undefined when there is none. */
	forward: (query: Buffer) => Promise<Buffer | undefined>;
}

export class NameServer implements SwitchPort {
	readonly #switch: EthernetSwitch;
	readonly #options: NameServerOptions;

	/** Connects it to the switch. */
	constructor(network: EthernetSwitch, options: NameServerOptions) {
		this.#switch = network;
		this.#options = options;
		network.add(this, options.station.mac);
	}

	send(frame: Buffer): void {
		const { station } = this.#options;
		const request = readArpRequest(frame);
		if (request?.wanted.equals(station.address)) {
			this.#switch.receive(arpReply(station, request.from), this);
			return;
		}
		const datagram = readDatagram(frame);
		if (datagram?.to.port !== DNS_PORT || !datagram.to.address.equals(station.address)) return;
		void this.#answer(datagram);
	}

	async #answer({ from, payload }: Datagram): Promise<void> {
		const answer = await this.#find(payload);
		if (answer === undefined) return;
		const own = { ...this.#options.station, port: DNS_PORT };
		this.#switch.receive(datagramFrame({ from: own, to: from, payload: answer }), this);
	}

	async #find(query: Buffer): Promise<Buffer | undefined> {
		const question = readQuestion(query);
		if (question === undefined) return undefined;
		const addresses = this.#options.lookUp(question.name);
		if (addresses === undefined) {
			return (await this.#options.forward(query)) ?? failWith(query, question, RCODE_SERVFAIL);
		}
		/* Of other types, such as AAAA, a member has no record. */
		const known = question.type === TYPE_A ? addresses.map(addressBytes) : [];
		return answerWith(query, question, known, TTL_SECONDS);
	}
}

/*
 * The name server of a network (RFC 1035), a service of a SwitchHost: it answers for names of members itself, and for all
 * others what the host's name server says.
 */
import { answerWith, failWith, RCODE_SERVFAIL, readQuestion, TYPE_A } from "./dns-message.ts";
import { addressBytes } from "./packets.ts";
import type { UdpService } from "./switch-host.ts";

export const DNS_PORT = 53;
/** Short: a member that has gone may come back with another address. */
const TTL_SECONDS = 5;

type MaybeLater<T> = T | Promise<T>;

export interface NameServerOptions {
	/**
	 * The addresses of a name, "10.0.0.2", in lower case; undefined when it is no member's. `mac` is the Ethernet address
	 * of the member that asks.
	 */
	lookUp: (name: string, mac: Buffer) => MaybeLater<readonly string[] | undefined>;
	/** The answer to a query about any other name. Undefined when there is none. */
	forward: (query: Buffer) => Promise<Buffer | undefined>;
}

/** For `SwitchHost.serve` at DNS_PORT. */
export function nameServer(options: NameServerOptions): UdpService {
	return ({ from, payload }, reply) => {
		void answerTo(payload, from.mac, options).then((answer) => {
			if (answer !== undefined) reply(from, answer);
		});
	};
}

async function answerTo(
	query: Buffer,
	mac: Buffer,
	{ lookUp, forward }: NameServerOptions,
): Promise<Buffer | undefined> {
	const question = readQuestion(query);
	if (question === undefined) return undefined;
	const addresses = await lookUp(question.name, mac);
	if (addresses === undefined) return (await forward(query)) ?? failWith(query, question, RCODE_SERVFAIL);
	/* Of other types, such as AAAA, a member has no record. */
	const known = question.type === TYPE_A ? addresses.map(addressBytes) : [];
	return answerWith(query, question, known, TTL_SECONDS);
}

/*
 * IPv4 subnets of networks between containers (RFC 4632), and which addresses of one have a meaning of their own:
 *
 *     10.89.0.0     the network itself
 *     10.89.0.1     the gateway, unless the user chooses another: each member's way out
 *     10.89.0.254   the last one: the network's own name server and DHCP server
 *     10.89.0.255   all members
 */
import { networkInterfaces } from "node:os";
import { UsageError } from "../../base/errors.ts";

/** The shortest and longest prefixes: at most 65,534 and at least 6 addresses of hosts. */
const PREFIX_LENGTHS = { least: 16, most: 29 };
/** Networks for which the user chooses no subnet: 10.89.0.0/24, 10.89.1.0/24 and so on. */
const POOL = { first: 0x0a590000, prefixLength: 24, count: 256 };

export class Subnet {
	readonly prefixLength: number;
	readonly #first: number;

	private constructor(first: number, prefixLength: number) {
		this.#first = first;
		this.prefixLength = prefixLength;
	}

	/** Reads "10.89.0.0/24". @throws UsageError ERR_NETWORK_SUBNET */
	static parse(text: string): Subnet {
		const [, address = "", bits = ""] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
		const first = addressNumber(address);
		const prefixLength = Number(bits);
		const { least, most } = PREFIX_LENGTHS;
		if (first === undefined || prefixLength < least || prefixLength > most || first % 2 ** (32 - prefixLength) !== 0) {
			throw new UsageError("ERR_NETWORK_SUBNET", `Cannot use "${text}" as a subnet`, {
				hint: `Write ADDRESS/BITS with ${least} to ${most} bits and no bit set behind them, as in 10.89.5.0/24`,
			});
		}
		return new Subnet(first, prefixLength);
	}

	/** The one around an address of a host, "192.168.1.7/24". */
	static around(cidr: string): Subnet {
		const [address = "", bits = ""] = cidr.split("/");
		const size = 2 ** (32 - Number(bits));
		return new Subnet(Math.floor((addressNumber(address) ?? 0) / size) * size, Number(bits));
	}

	/** One of tsvmm's own that overlaps none of `taken` and no network of this host's. Undefined when there is none. */
	static choose(taken: readonly Subnet[]): Subnet | undefined {
		const busy = [...taken, ...ofThisHost()];
		for (let i = 0; i < POOL.count; i++) {
			const subnet = new Subnet(POOL.first + i * 2 ** (32 - POOL.prefixLength), POOL.prefixLength);
			if (!busy.some((other) => other.overlaps(subnet))) return subnet;
		}
		return undefined;
	}

	/** "10.89.0.0/24" */
	toString(): string {
		return `${addressText(this.#first)}/${this.prefixLength}`;
	}

	overlaps(other: Subnet): boolean {
		return this.#first <= other.#last && other.#first <= this.#last;
	}

	/** Whether it is an address that a host of this subnet can have. */
	hasHost(address: string): boolean {
		const number = addressNumber(address);
		return number !== undefined && number > this.#first && number < this.#last;
	}

	get firstHost(): string {
		return addressText(this.#first + 1);
	}

	get lastHost(): string {
		return addressText(this.#last - 1);
	}

	/** The addresses that hosts can have, the lowest first. */
	*hosts(): Generator<string> {
		for (let number = this.#first + 1; number < this.#last; number++) yield addressText(number);
	}

	/** The netmask, "255.255.255.0". */
	get mask(): string {
		return addressText(2 ** 32 - 2 ** (32 - this.prefixLength));
	}

	get #last(): number {
		return this.#first + 2 ** (32 - this.prefixLength) - 1;
	}
}

function ofThisHost(): Subnet[] {
	const addresses = Object.values(networkInterfaces()).flatMap((found) => found ?? []);
	return addresses.flatMap(({ cidr, family }) => (family === "IPv4" && cidr !== null ? [Subnet.around(cidr)] : []));
}

function addressNumber(text: string): number | undefined {
	const bytes = text.split(".");
	if (bytes.length !== 4 || !bytes.every((byte) => /^\d{1,3}$/.test(byte) && Number(byte) < 256)) return undefined;
	return bytes.reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function addressText(number: number): string {
	return [24, 16, 8, 0].map((shift) => (number >>> shift) & 0xff).join(".");
}
